"""Who may have which executor work: a task never lends a right that its creator did not have."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskqueue_mcp.errors import Forbidden, InvalidInput
from taskqueue_mcp.model import Kind, Scope, Trust
from taskqueue_mcp.store import tasks
from taskqueue_mcp.store import templates as template_store
from taskqueue_mcp.taskqueue.merging import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskqueue_mcp.model import Body, Caller, Schedule, Task
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.merging import Merged, Wanted
    from taskqueue_mcp.taskqueue.rules import Rules

ALL = "*"
OVERRIDING = ("instructions", "task_type", "params", "sop", "options")
"""What a call may not say when it makes a task by the right of its template's owner."""
DECIDING = ("task_type", "sop", "options")
"""What of a template decides the executor."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Rights:
    """The executors that somebody may have work besides those that are open to everybody."""

    executors: frozenset[str] = frozenset()
    is_all: bool = False

    def include(self, executor: str) -> bool:
        """Whether they cover `executor`."""
        return self.is_all or executor in self.executors

    def within(self, other: Rights) -> Rights:
        """Return what both cover."""
        if self.is_all:
            return other
        return self if other.is_all else Rights(self.executors & other.executors)

    def written(self) -> str | None:
        """Return them as they are stored; None for none."""
        return ALL if self.is_all else " ".join(sorted(self.executors)) or None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task comes from: whose text it is, and the rights that it and its children have."""

    rights: Rights
    trust: Trust

    def stamp(self, body: Body) -> Body:
        """Return the body with its origin on it."""
        return body._replace(trust=self.trust.value, rights=self.rights.written())


def of(caller: Caller) -> Rights:
    """Return a caller's rights; `admin` holds them all."""
    return Rights(is_all=True) if caller.may(Scope.ADMIN) else Rights(caller.executors)


def read(written: str | None) -> Rights:
    """Return rights as they were stored."""
    return Rights(is_all=True) if written == ALL else Rights(frozenset((written or "").split()))


def trust_in(caller: Caller, requested_by: str | None = None) -> Trust:
    """Return whose text a caller's is: an agent that speaks for somebody else brings a stranger's."""
    if caller.kind is Kind.PERSON:
        return Trust.OWNER
    return Trust.AGENT if requested_by is None else Trust.EXTERNAL


def least(trusts: Iterable[str | None]) -> Trust:
    """Return the least of them; what was stored before there was any trust counts as an agent's."""
    order = list(Trust)
    return max((Trust(each or Trust.AGENT) for each in trusts), key=order.index)


def origin(
    transaction: Transaction, caller: Caller, requested_by: str | None, parent: Task | None, inputs: tuple[int, ...],
    schedule: Schedule | None,
) -> Origin:  # fmt: skip
    """Return the origin of a new task: that of its caller, its parent, its schedule and of what it works on."""
    held: Rights = of(caller)
    trusts: list[str | None] = [trust_in(caller, requested_by).value, *tasks.trusts(transaction, inputs)]
    if schedule is not None:
        held = held.within(read(schedule.rights))
        trusts.append(schedule.trust)
    if parent is not None:
        body = tasks.fetch_body(transaction, parent.id)
        held = held.within(read(body.rights))
        trusts.append(body.trust)
    return Origin(held, least(trusts))


def check(
    transaction: Transaction, rules: Rules, caller: Caller, wanted: Wanted, merged: Merged, parent: Task | None = None
) -> None:
    """Refuse a task whose executor its creator has no right to.

    Raises:
        Forbidden: with the scope that is missing.
        InvalidInput: a variable of an owner's template is not plain.
    """
    for executor in _needed(rules, merged):
        _check(transaction, caller, wanted, executor, parent)


def _needed(rules: Rules, merged: Merged) -> Iterable[str]:
    """Return the executors that need a right: the task's own, and the one whose list its first look goes by."""
    wanted = dict.fromkeys((merged.executor, *looking(merged.body)))
    return [each for each in wanted if each not in rules.open_executors]


def looking(body: Body) -> tuple[str, ...]:
    """Return the executor whose list the first look of a task goes by, where it has one."""
    if body.only_if is None:
        return ()
    return ("shell",) if "command" in json.loads(body.only_if) else ("query",)


def _check(transaction: Transaction, caller: Caller, wanted: Wanted, executor: str, parent: Task | None) -> None:
    if not of(caller).include(executor) and not lent(transaction, wanted):
        raise lacking(caller, executor)
    if parent is not None and not read(tasks.fetch_body(transaction, parent.id).rights).include(executor):
        raise Forbidden(
            f"T-{parent.id} came from {parent.created_by}, who had no right to the executor {executor}, so a task "
            "below it has none either; have a person create it",
            scope=scope_of(executor),
        )


def check_retry(transaction: Transaction, rules: Rules, caller: Caller, task: Task) -> None:
    """Refuse to open or approve a task for a caller who could not have created it.

    Raises:
        Forbidden: with the scope that is missing.
    """
    for executor in (task.executor, *looking(tasks.fetch_body(transaction, task.id))):
        if executor not in rules.open_executors and not of(caller).include(executor):
            raise lacking(caller, executor)


def check_run(transaction: Transaction, rules: Rules, wanted: Wanted, merged: Merged, held: Rights, name: str) -> None:
    """Refuse the run of a schedule whose executor its creator had no right to: a procedure may have changed since.

    Raises:
        Forbidden: with the scope that is missing.
    """
    for executor in _needed(rules, merged):
        if not held.include(executor) and not lent(transaction, wanted):
            raise Forbidden(
                f"who made schedule {name!r} had no right to the executor {executor}; have somebody with the scope "
                f"{scope_of(executor)} save it again",
                scope=scope_of(executor),
            )


def lent(transaction: Transaction, wanted: Wanted) -> bool:
    """Whether the owner of the template lends the right: the call fills in nothing but plain variables.

    Raises:
        InvalidInput: a variable could be read as something else than a value.
    """
    if wanted.template is None or any(getattr(wanted, name) is not None for name in OVERRIDING):
        return False
    template = template_store.by_name(transaction, wanted.template)
    if template is None:
        return False
    body = json.loads(template.body)
    if any(VARIABLE.search(json.dumps(body.get(name))) for name in DECIDING):
        return False
    _plain(wanted.given().get("variables") or {})
    return True


def lacking(caller: Caller, executor: str) -> Forbidden:
    """Return the error that says which scope is missing, and how it is given."""
    scope = scope_of(executor)
    return Forbidden(
        f"{caller.name} lacks the scope {scope}, which tasks of the executor {executor} need; a person gives it with "
        f"taskqueue-mcp tokens create --name NAME --scope enqueue,{scope} (over stdio: --scope enqueue,work,{scope})",
        scope=scope,
    )


def scope_of(executor: str) -> str:
    """Return the scope that creating tasks of an executor needs."""
    return f"exec:{executor}"


def _plain(variables: Mapping[str, Any] | str) -> None:
    values = json.loads(variables) if isinstance(variables, str) else variables
    for name, value in values.items():
        if isinstance(value, str) and not value.startswith("-") and CONTROL.search(value) is None:
            continue
        if isinstance(value, int | float):
            continue
        raise InvalidInput(
            f"variables: {name} must be a number or one line of text that does not start with - in a template that "
            "runs by its owner's right"
        )

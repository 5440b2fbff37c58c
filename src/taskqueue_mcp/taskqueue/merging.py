"""What a task asks for, merged once: procedure front matter < template < schedule < the call; then checked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp import checks
from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound, TaskQueueError
from taskqueue_mcp.model import Body, Priority
from taskqueue_mcp.outputs import expectations
from taskqueue_mcp.store import templates as template_store
from taskqueue_mcp.taskqueue.rules import DEFAULT_EXECUTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taskqueue_mcp.outputs.expectations import Expectation
    from taskqueue_mcp.procedures.parsing import Output
    from taskqueue_mcp.store import Transaction
    from taskqueue_mcp.taskqueue.limits import Limits
    from taskqueue_mcp.taskqueue.rules import Rules

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
OUTPUT_KEYS = frozenset({"format", "formats", "path", "filename_pattern", "return_to_gemini"})
PLANS = ("auto", "approve")
LONGEST_TIMEOUT = 7 * 86_400
MOST_MONEY = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of a task as they were supplied; None means not given."""

    title: str | None = None
    instructions: str | None = None
    task_type: str | None = None
    params: Any = None
    sop: str | None = None
    template: str | None = None
    variables: Any = None
    queue: str | None = None
    priority: str | None = None
    tags: tuple[str, ...] | None = None
    options: Any = None

    def given(self) -> dict[str, Any]:
        """Return what was supplied, as plain JSON."""
        supplied = {name: getattr(self, name) for name in ARGUMENTS}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in supplied.items()
            if value is not None
        }


ARGUMENTS = tuple(field.name for field in fields(Wanted))


@dataclass(frozen=True, slots=True)
class Merged:
    """A checked task, ready to be stored."""

    title: str
    task_type: str
    executor: str
    queue: str
    priority: str
    max_attempts: int
    serial_key: str | None
    body: Body

    def row(self) -> dict[str, Any]:
        """Return the columns of the task row that come from the arguments."""
        return {
            "title": self.title,
            "task_type": self.task_type,
            "executor": self.executor,
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "serial_key": self.serial_key,
            "expects": int(self.body.outputs is not None),
        }


def merge(transaction: Transaction, rules: Rules, wanted: Wanted, requested_by: str | None = None) -> Merged:
    """Merge and check the arguments of a task.

    Raises:
        InvalidInput: an argument is not what it must be, or a variable is missing.
        NotFound: the template or procedure does not exist.
        LimitReached: the body is too large.
    """
    limits = rules.limits
    call = _normal(wanted.given(), limits)
    layers = [call]
    if wanted.template is not None:
        layers.insert(0, _template(transaction, wanted.template, call, limits))
    elif call.get("variables"):
        layers[0] = _fill(call, call["variables"])
    sop = next((layer["sop"] for layer in reversed(layers) if layer.get("sop")), None)
    if sop is not None:
        layers.insert(
            0, _front_matter(rules, str(sop), given={k: v for layer in layers for k, v in layer["params"].items()})
        )
    return _checked(_stack(layers), rules, requested_by)


def check_params(rules: Rules, merged: Merged) -> None:
    """Refuse parameters that the executor would refuse, where it is one that this server knows.

    Those of a task with a procedure are the procedure's: which of them are missing is said already, and what else is
    wrong the attempt says, by the text that it follows.

    Raises:
        InvalidInput: one line with every bad field.
    """
    body = merged.body
    if rules.executors is None or body.sop is not None:
        return
    if body.params is not None or merged.executor != DEFAULT_EXECUTOR:  # which takes any task
        rules.executors.check(merged.executor, json.loads(body.params or "{}"))


def doubts(rules: Rules, merged: Merged) -> tuple[str, ...]:
    """Say what the executor will not take; whether it does is its own word, and its version's, when it runs."""
    try:
        check_params(rules, merged)
    except TaskQueueError as error:
        return (f"it will fail as it stands: {error}",)
    return ()


def _normal(given: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    layer = dict(given)
    layer["params"] = checks.json_object("params", given.get("params"), limits.json_depth)
    layer["variables"] = checks.json_object("variables", given.get("variables"), limits.json_depth)
    layer["options"] = checks.json_object("options", given.get("options"), limits.json_depth)
    layer["tags"] = list(given.get("tags") or ())
    return layer


def _template(transaction: Transaction, name: str, call: dict[str, Any], limits: Limits) -> dict[str, Any]:
    template = template_store.by_name(transaction, checks.text("template", name))
    if template is None:
        raise NotFound(f"there is no template {name!r}; `taskqueue-mcp templates list` shows those that exist")
    variables = {**json.loads(template.defaults), **call["variables"]}
    own = {key: value for key, value in call.items() if key not in {"template", "variables"}}
    call.update(_fill(own, variables) if call["variables"] else own)
    layer = _normal(json.loads(template.body), limits)
    filled: dict[str, Any] = _fill(layer, variables, f"template {name!r}")
    return filled


def _fill(value: Any, variables: Mapping[str, Any], where: str = "the text") -> Any:
    """Replace `{{variable}}` in every string of `value`."""
    if isinstance(value, str):
        whole = VARIABLE.fullmatch(value)
        if whole is not None:
            return _value(whole[1], variables, where)
        return VARIABLE.sub(lambda match: _text(_value(match[1], variables, where)), value)
    if isinstance(value, dict):
        return {key: _fill(item, variables, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, variables, where) for item in value]
    return value


def _value(name: str, variables: Mapping[str, Any], where: str) -> Any:
    if name not in variables:
        known = ", ".join(sorted(variables)) or "none"
        raise InvalidInput(f"variables: {where} needs {name!r} and it has no default; given: {known}")
    return variables[name]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _front_matter(rules: Rules, sop: str, given: dict[str, Any]) -> dict[str, Any]:
    if rules.procedures is None:
        raise NotFound("sop: this server has no folder of procedures; set TASKQUEUE_SOPS")
    procedure = rules.procedures.load(sop)
    options = {
        "executor": procedure.executor,
        "timeout_seconds": procedure.timeout_seconds,
        "budget_usd": procedure.budget_usd,
        "output": None if procedure.output is None else _output_of(procedure.output),
        "outputs": expectations.write(
            expectations.read(expectations.checkable(procedure.outputs), what=f"{procedure.path}: outputs")
        )
        or None,
    }
    missing = [param.name for param in procedure.params if param.required and param.name not in given]
    if missing:
        raise InvalidInput(f"params: the procedure {procedure.path} needs {', '.join(missing)}; pass it in params")
    return {
        "task_type": procedure.task_type,
        "title": procedure.title,
        "params": {param.name: param.default for param in procedure.params if not param.required},
        "options": {key: value for key, value in options.items() if value is not None},
        "tags": [],
        "sop": procedure.path,
    }


def _output_of(output: Output) -> dict[str, Any]:
    wanted = {"format": output.format, "path": output.path, "filename_pattern": output.filename_pattern}
    several = {"formats": list(output.formats)} if output.formats else {}
    return {key: value for key, value in wanted.items() if value is not None} | several


def _stack(layers: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {"params": {}, "options": {}, "tags": [], "variables": {}}
    for layer in layers:
        for key, value in layer.items():
            if key == "options":
                # What a procedure wants to see, nobody who uses it can wish away: it adds up.
                wanted = [*_listed(merged[key].get("outputs")), *_listed(value.get("outputs"))]
                merged[key] = {**merged[key], **value, **({"outputs": wanted} if wanted else {})}
            elif key in {"params", "variables"}:
                merged[key] = {**merged[key], **value}
            elif key == "tags":
                merged[key] += [tag for tag in value if tag not in merged[key]]
            elif value is not None:
                merged[key] = value
    if layers[0].get("sop"):
        merged["sop"] = layers[0]["sop"]
    return merged


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _checked(merged: dict[str, Any], rules: Rules, requested_by: str | None) -> Merged:
    limits = rules.limits
    title = checks.text("title", str(merged.get("title") or "")).strip()
    if not title:
        raise InvalidInput("title: is empty; say in a few words what has to be done")
    if len(title) > limits.title_length:
        raise InvalidInput(
            f"title: {len(title):,} characters; at most {limits.title_length} fit, put the rest into instructions"
        )
    task_type = checks.name("task_type", str(merged.get("task_type") or "task"))
    options = _options(merged["options"])
    if len(merged["tags"]) > limits.tags:
        raise LimitReached(f"tags: {len(merged['tags'])} given; at most {limits.tags} are kept")
    written = {key: _written(key, merged[key], limits) for key in ("params", "variables")}
    body = Body(
        instructions=checks.text("instructions", str(merged.get("instructions") or "")),
        params=written["params"],
        variables=written["variables"],
        sop=merged.get("sop"),
        template=merged.get("template"),
        tags=tuple(checks.label("tags", str(tag), 60) for tag in merged["tags"]),
        requested_by=None if requested_by is None else checks.label("requested_by", requested_by),
        output=_written("output", options.output, limits),
        outputs=_written("outputs", expectations.write(options.outputs), limits),
        timeout_seconds=options.timeout_seconds,
        budget_usd=options.budget_usd,
        budget=_written("budget", options.budget(), limits),
        on_dependency_failure=options.on_dependency_failure,
        notify=_written("notify", options.notify, limits),
        plan=options.plan,
        metadata=_written("metadata", options.metadata, limits),
        only_if=_written("only_if", options.only_if, limits),
    )
    parts = (
        title, body.instructions, body.params, body.variables, body.output, body.outputs, body.notify, body.metadata,
        body.only_if,
    )  # fmt: skip
    size = sum(len(part.encode()) for part in parts if part)
    if size > limits.body_bytes:
        raise LimitReached(
            f"the task is {size:,} bytes; at most {limits.body_bytes:,} are kept: "
            "put the data into a file and name its path in the instructions",
            limit=limits.body_bytes,
        )
    return Merged(
        title=title,
        task_type=task_type,
        executor=options.executor or rules.executor(task_type),
        queue=checks.name("queue", str(merged.get("queue") or "default")),
        priority=checks.one_of("priority", str(merged.get("priority") or "medium"), Priority).value,
        max_attempts=options.max_attempts or limits.max_attempts,
        serial_key=options.serial_key,
        body=body,
    )


def _written(name: str, value: Any, limits: Limits) -> str | None:
    return None if value in (None, {}, []) else checks.document(name, value, limits.json_depth)


@dataclass(frozen=True, slots=True)
class Options:
    """What is rare: the keys of the `options` argument."""

    executor: str | None = None
    output: dict[str, Any] | None = None
    outputs: tuple[Expectation, ...] = ()
    budget_usd: float | None = None
    budget_turns: float | None = None
    budget_minutes: float | None = None
    budget_usd_per_day: float | None = None
    budget_turns_per_day: float | None = None
    budget_minutes_per_day: float | None = None
    timeout_seconds: int | None = None
    max_attempts: int | None = None
    serial_key: str | None = None
    on_dependency_failure: str = "fail"
    notify: Any = None
    plan: str | None = None
    metadata: Any = None
    only_if: dict[str, Any] | None = None

    def budget(self) -> dict[str, Any]:
        """Return the ceilings beside `budget_usd`: of a run in turns and minutes, of a schedule's day in each unit."""
        run = {"turns": self.budget_turns, "minutes": self.budget_minutes}
        day = {
            "usd": self.budget_usd_per_day,
            "turns": self.budget_turns_per_day,
            "minutes": self.budget_minutes_per_day,
        }
        found: dict[str, Any] = {unit: amount for unit, amount in run.items() if amount is not None}
        per_day = {unit: amount for unit, amount in day.items() if amount is not None}
        return {**found, "per_day": per_day} if per_day else found


OPTIONS = frozenset(field.name for field in fields(Options))
BUDGETS = frozenset(name for name in OPTIONS if name.startswith("budget_"))


def _options(given: dict[str, Any]) -> Options:
    if not given:
        return NOTHING_RARE
    unknown = sorted(set(given) - OPTIONS)
    if unknown:
        raise InvalidInput(f"options: unknown {', '.join(unknown)}; known are {', '.join(sorted(OPTIONS))}")
    return Options(**{key: READERS[key](value) if key in READERS else value
                      for key, value in given.items() if value is not None})  # fmt: skip


def _executor(value: Any) -> str:
    return checks.name("options.executor", _label("options.executor", value))


def _one_of(name: str, allowed: tuple[str, ...], value: Any) -> str:
    if value not in allowed:
        raise InvalidInput(f"{name}: is {' or '.join(allowed)}")
    return str(value)


def _label(name: str, value: Any) -> str:
    if not isinstance(value, str | int):
        raise InvalidInput(f"{name}: must be text")
    return checks.label(name, str(value), 100)


def _whole(name: str, least: int, most: int, value: Any) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise InvalidInput(f"{name}: must be a whole number from {least} to {most:,}")
    return number


def _amount(name: str, value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 < amount < MOST_MONEY:
        what = "in US dollars " if "usd" in name else ""
        raise InvalidInput(f"{name}: must be an amount {what}above 0")
    return amount


def _only_if(value: Any) -> dict[str, Any]:
    """Check the shape; what the statement or command may do is for the worker's lists to say."""
    how = 'options.only_if: must be {"source", "sql"} or {"command": ["name", "argument"]}'
    if not isinstance(value, dict) or set(value) - {"sql", "source", "params", "command"}:
        raise InvalidInput(how)
    command, sql = value.get("command"), value.get("sql")
    if (command is None) == (sql is None) or (command is not None and len(value) > 1):
        raise InvalidInput(how)
    if command is not None and not (command and _is_texts(command)):
        raise InvalidInput(how)
    if not isinstance(value.get("params", {}), dict) or not _is_texts([value.get("source", ""), sql or ""]):
        raise InvalidInput(how)
    return value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _outputs(value: Any) -> tuple[Expectation, ...]:
    return expectations.read(value, what="options.outputs")


def _output(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput('options.output: must be an object such as {"format": "xlsx", "path": "Reports/"}')
    unknown = sorted(set(value) - OUTPUT_KEYS)
    if unknown:
        raise InvalidInput(f"options.output: unknown {', '.join(unknown)}; known are {', '.join(sorted(OUTPUT_KEYS))}")
    return value


NOTHING_RARE: Final = Options()
READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "executor": _executor,
    "serial_key": partial(_label, "options.serial_key"),
    "plan": partial(_one_of, "options.plan", PLANS),
    "on_dependency_failure": partial(_one_of, "options.on_dependency_failure", ("fail", "run")),
    "timeout_seconds": partial(_whole, "options.timeout_seconds", 1, LONGEST_TIMEOUT),
    "max_attempts": partial(_whole, "options.max_attempts", 1, 100),
    "output": _output,
    "outputs": _outputs,
    "only_if": _only_if,
    **{key: partial(_amount, f"options.{key}") for key in sorted(BUDGETS)},
}
"""How the value of an option is read; what is not here is taken as it is."""

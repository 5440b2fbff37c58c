"""Tokens: hashed at rest, bound to a principal, revocable."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.auth import REMEMBERED, Auth, fixed_token, local_person, read_scopes
from taskqueue_mcp.errors import Conflict, Forbidden, InvalidInput, NotFound
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.taskqueue import ClaimRequest, Completion, NewTask, Wanted

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.taskqueue import TaskQueue
    from tests.clock import Clock

OWNER = local_person()
WORK = frozenset({Scope.WORK})


@pytest.fixture
def auth(queue: TaskQueue) -> Auth:
    return Auth(queue.database)


async def test_a_token_speaks_for_its_principal_with_its_scopes(auth: Auth) -> None:
    made = await auth.create(OWNER, "laptop", WORK, principal="claude")
    assert await auth.authenticate(made.secret) == Caller("claude", Kind.AGENT, WORK)
    assert await auth.authenticate(made.secret + "x") is None
    assert await auth.authenticate("") is None


async def test_a_secret_is_nowhere_in_the_database(auth: Auth, folder: Path) -> None:
    made = await auth.create(OWNER, "laptop", WORK)
    stored = b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())
    assert made.secret.encode() not in stored
    assert made.secret not in repr(made.token)


async def test_a_revoked_token_opens_nothing_and_its_name_is_free_again(auth: Auth) -> None:
    made = await auth.create(OWNER, "laptop", WORK)
    with pytest.raises(Conflict, match="laptop"):
        await auth.create(OWNER, "laptop", WORK)
    await auth.revoke(OWNER, "laptop")
    assert await auth.authenticate(made.secret) is None
    with pytest.raises(NotFound, match="laptop"):
        await auth.revoke(OWNER, "laptop")
    assert await auth.authenticate((await auth.create(OWNER, "laptop", WORK)).secret) is not None


async def test_a_token_that_was_just_used_opens_nothing_once_it_is_revoked(auth: Auth) -> None:
    made = await auth.create(OWNER, "laptop", WORK)
    assert await auth.authenticate(made.secret) is not None
    await auth.revoke(OWNER, "laptop")
    assert await auth.authenticate(made.secret) is None


async def test_a_token_that_another_process_revokes_opens_nothing_a_second_later(queue: TaskQueue) -> None:
    ours, theirs = Auth(queue.database), Auth(queue.database)
    made = await ours.create(OWNER, "laptop", WORK)
    assert await ours.authenticate(made.secret) is not None
    await theirs.revoke(OWNER, "laptop")
    revoked_at = time.monotonic()
    while await ours.authenticate(made.secret) is not None:
        await asyncio.sleep(0.01)
        assert time.monotonic() < revoked_at + REMEMBERED + 1


class LateReader:
    """The database, with answers that take until `let_go`."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.has_read, self.let_go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read(self, work: Any) -> Any:
        found = await self._database.read(work)
        self.has_read.set()
        await self.let_go.wait()
        return found


async def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered(queue: TaskQueue) -> None:
    late: Any = LateReader(queue.database)
    auth = Auth(late)
    made = await auth.create(OWNER, "laptop", WORK)
    looking = asyncio.create_task(auth.authenticate(made.secret))
    await late.has_read.wait()
    await auth.revoke(OWNER, "laptop")
    late.let_go.set()
    await looking  # it came in before
    assert await auth.authenticate(made.secret) is None


async def test_a_token_ends_when_its_time_is_over(auth: Auth, clock: Clock) -> None:
    made = await auth.create(OWNER, "visitor", WORK, expires_at=clock() + 60_000_000)
    assert await auth.authenticate(made.secret) is not None
    clock.advance(61)
    assert await auth.authenticate(made.secret) is None
    assert not await auth.any_token()


async def test_a_rotated_token_keeps_the_lease_of_its_principal(auth: Auth, queue: TaskQueue) -> None:
    first = await auth.authenticate((await auth.create(OWNER, "old", WORK, principal="claude")).secret)
    second = await auth.authenticate((await auth.create(OWNER, "new", WORK, principal="claude")).secret)
    assert first is not None
    assert second is not None
    await queue.create(OWNER, NewTask(Wanted(title="Go on")))
    claim = await queue.claim(first, ClaimRequest())
    assert claim is not None
    assert (await queue.complete(second, Completion(claim.lease))).task.status == "completed"


async def test_only_an_admin_makes_lists_and_revokes_tokens(auth: Auth) -> None:
    worker = Caller("claude", Kind.AGENT, WORK)
    with pytest.raises(Forbidden, match="admin"):
        await auth.create(worker, "more", frozenset(Scope))
    with pytest.raises(Forbidden, match="admin"):
        await auth.list(worker)
    with pytest.raises(Forbidden, match="admin"):
        await auth.revoke(worker, "owner")


async def test_a_principal_does_not_change_its_kind(auth: Auth) -> None:
    await auth.create(OWNER, "laptop", WORK, principal="claude", kind=Kind.AGENT)
    with pytest.raises(Conflict, match="agent"):
        await auth.create(OWNER, "other", WORK, principal="claude", kind=Kind.PERSON)


async def test_a_token_without_a_scope_is_refused(auth: Auth) -> None:
    with pytest.raises(InvalidInput, match="enqueue, work, answer, admin"):
        await auth.create(OWNER, "nothing", frozenset())


def test_scopes_are_read_from_words_commas_and_blanks() -> None:
    assert read_scopes(("enqueue,work", "answer")) == (
        frozenset({Scope.ENQUEUE, Scope.WORK, Scope.ANSWER}),
        frozenset(),
    )
    assert read_scopes(("enqueue", "exec:shell,exec:mail")) == (
        frozenset({Scope.ENQUEUE}),
        frozenset({"shell", "mail"}),
    )
    for wrong in ("root", "exec:", "exec:*", "exec:a b\n"):
        with pytest.raises(InvalidInput, match="scope"):
            read_scopes((wrong, "exec:"))


def test_the_environments_token_has_every_scope() -> None:
    (caller,) = fixed_token("0123456789abcdef").values()
    assert caller.scopes == frozenset(Scope)
    with pytest.raises(InvalidInput, match="at least 16"):
        fixed_token("0123456789")

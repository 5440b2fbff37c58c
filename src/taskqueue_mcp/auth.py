"""Who asks: tokens, stored hashed, point to principals; scopes say what a token may do."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskqueue_mcp import checks
from taskqueue_mcp.errors import Conflict, Forbidden, InvalidInput, NotFound
from taskqueue_mcp.leases import digest
from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.store import principals
from taskqueue_mcp.store.principals import EXECUTOR

if TYPE_CHECKING:
    from taskqueue_mcp.model import Micros
    from taskqueue_mcp.store import Database, Transaction
    from taskqueue_mcp.store.principals import Token

PREFIX = "tq_"
SHORTEST = 16
ALL_SCOPES = frozenset(Scope)
CREATING = frozenset({Scope.ENQUEUE, Scope.WORK, Scope.ADMIN})
REMEMBERED = 1.0
"""For how long who a token speaks for is not looked up again, in seconds."""
MOST_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class Made:
    """A new token: `secret` is shown once and stored nowhere."""

    token: Token
    secret: str


class Auth:
    """Makes, lists, revokes and checks tokens."""

    def __init__(self, database: Database, fixed: dict[str, Caller] | None = None) -> None:
        self._database = database
        self._fixed = {digest(secret): caller for secret, caller in (fixed or {}).items()}
        self._known: dict[str, tuple[Caller, float]] = {}
        self._revocations = 0

    async def authenticate(self, secret: str) -> Caller | None:
        """Return who a bearer token speaks for, or None.

        A token without an end is remembered: one that another process revokes opens nothing `REMEMBERED` seconds
        later, one that this process revokes at once.
        """
        hashed = digest(secret)
        fixed = self._fixed.get(hashed)
        if fixed is not None:
            return fixed
        known = self._known.get(hashed)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        return await self._look_up(hashed)

    async def _look_up(self, hashed: str) -> Caller | None:
        until, revocations = time.monotonic() + REMEMBERED, self._revocations
        found = await self._database.read(lambda transaction: principals.holder(transaction, hashed))
        self._known.pop(hashed, None)
        if found is None:
            return None
        if found.expires_at is None and revocations == self._revocations:  # else it may be what was revoked meanwhile
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[hashed] = found.caller, until
        return found.caller

    async def create(
        self, by: Caller, name: str, scopes: frozenset[Scope], *, kind: Kind = Kind.AGENT,
        principal: str | None = None, expires_at: Micros | None = None, executors: frozenset[str] = frozenset(),
    ) -> Made:  # fmt: skip
        """Make a token for a principal (by default of the token's name); return it with its secret.

        `executors` are those whose tasks it may create besides the ones that are open to all.

        Raises:
            Conflict: a live token has this name.
            Forbidden: only `admin` makes tokens.
        """
        _needs_admin(by)
        return await self._database.write(
            lambda transaction: create(
                transaction,
                by,
                name,
                scopes,
                kind=kind,
                principal=principal,
                expires_at=expires_at,
                executors=executors,
            )
        )

    async def list(self, by: Caller) -> list[Token]:
        """Return every token, newest first, without secrets."""
        _needs_admin(by)
        return await self._database.read(principals.tokens)

    async def revoke(self, by: Caller, name: str) -> None:
        """Revoke the live token of this name; leases stay with its principal.

        Raises:
            NotFound: there is none.
        """
        _needs_admin(by)

        def work(transaction: Transaction) -> None:
            if not principals.revoke(transaction, name, by.name):
                raise NotFound(f"there is no live token {name!r}; `taskqueue-mcp tokens list` shows those that exist")

        await self._database.write(work)
        self._revocations += 1
        self._known.clear()

    async def any_token(self) -> bool:
        """Whether there is a way in at all."""
        return bool(self._fixed) or await self._database.read(principals.any_live)


def create(
    transaction: Transaction, by: Caller, name: str, scopes: frozenset[Scope], *, kind: Kind,
    principal: str | None, expires_at: Micros | None, executors: frozenset[str] = frozenset(),
) -> Made:  # fmt: skip
    """Make a token in a transaction."""
    checks.name("name", name)
    who = checks.name("principal", principal or name)
    if executors and not scopes & CREATING:
        named = ", ".join(sorted(executors))
        raise InvalidInput(f"scope: exec: lets tasks be created ({named}), so give it with enqueue or work")
    if not scopes:
        raise InvalidInput(f"scope: give at least one of {', '.join(Scope)}")
    if principals.live_named(transaction, name):
        raise Conflict(f"a token named {name!r} is live; revoke it first, or choose another name")
    secret = PREFIX + secrets.token_urlsafe(32)
    known = principals.ensure(transaction, who, kind)
    if known is not kind:
        raise Conflict(f"{who!r} is known as a {known}; make the token with --kind {known} or another --principal")
    words = [*sorted(scope.value for scope in scopes), *sorted(f"{EXECUTOR}{name}" for name in executors)]
    written = json.dumps(words)
    token = principals.insert(transaction, name, who, digest(secret), written, expires_at, by.name)
    return Made(token, secret)


def fixed_token(secret: str, name: str = "token") -> dict[str, Caller]:
    """Return the way in that `TASKQUEUE_TOKEN` opens: every scope, for containers.

    Raises:
        InvalidInput: it is too short to be a secret.
    """
    if len(secret) < SHORTEST:
        raise InvalidInput(f"TASKQUEUE_TOKEN: {len(secret)} characters; use at least {SHORTEST} random ones")
    return {secret: Caller(name, Kind.PERSON, ALL_SCOPES)}


def read_scopes(words: tuple[str, ...]) -> tuple[frozenset[Scope], frozenset[str]]:
    """Read scopes, one a word or several separated by commas or blanks; `exec:NAME` names an executor.

    Returns what a token may do, and the executors whose tasks it may create besides the ones that are open to all.

    Raises:
        InvalidInput: one of them is none.
    """
    found = [part for word in words for part in word.replace(",", " ").split()]
    executors = frozenset(
        checks.name("scope exec:", part.removeprefix(EXECUTOR)) for part in found if part.startswith(EXECUTOR)
    )
    try:
        scopes = frozenset(checks.one_of("scope", part, Scope) for part in found if not part.startswith(EXECUTOR))
    except InvalidInput as error:
        raise InvalidInput(f"{error}, or {EXECUTOR}NAME for an executor") from None
    return scopes, executors


def local_person(name: str = "owner") -> Caller:
    """Return who the command line speaks for: the person at this machine, with all scopes."""
    return Caller(name, Kind.PERSON, ALL_SCOPES)


def _needs_admin(by: Caller) -> None:
    if not by.may(Scope.ADMIN):
        raise Forbidden(f"{by.name} lacks the scope admin; use a token that has it", scope="admin")

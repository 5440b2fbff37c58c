"""What may be spent, and on which day. Pure: no clock, no database; amounts are whole millionths of a unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskqueue_mcp.model import Micros

Unit = Literal["usd", "turns", "minutes"]
Amount = int
"""Millionths of a dollar, of a turn, of a minute: sums of them are exact."""
Amounts = Mapping[Unit, Amount]

UNITS: tuple[Unit, ...] = ("usd", "turns", "minutes")
ONE: Amount = 1_000_000
NOTHING: Amounts = {}
MOST = 1_000_000 * ONE
CENT: Amount = ONE // 100
LEAST: Amount = ONE // 1_000
"""With less than that nobody begins: a task that has no more left is at its ceiling."""
NAMES = {"usd": "USD", "turns": "turns", "minutes": "minutes"}
REPORTED_AS: Mapping[Unit, tuple[str, int]] = {
    "usd": ("cost_usd", 1),
    "turns": ("turns", 1),
    "minutes": ("duration_seconds", 60),
}
"""The key of usage that each unit is reported by, and how many of those make one."""
TASK_DAY = 0
"""The day of a task's own account: its ceiling holds for all its days."""

AMOUNT = re.compile(
    r"\+?\s*\$?\s*(\d{1,9}(?:\.\d{1,6})?)\s*(?:usd|dollars?|turns?|minutes?|min|\$)?\s*[.!]?", re.IGNORECASE
)
GO_ON = re.compile(r"(?:(?:yes|ok|okay|go on|continue)\b[,:]?\s*)+(?:with\b)?\s*", re.IGNORECASE)
STOP = re.compile(r"(?:no\b[,:]?\s*)?stop\s*[.!]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budgets:
    """The ceilings of the settings: of a task that has none of its own, of each day, of queues a day.

    `executors` are those that cost something; a task's default is for them.
    """

    executors: frozenset[str] = frozenset()
    task: Amounts = field(default_factory=dict)
    day: Amounts = field(default_factory=dict)
    queues: Mapping[str, Amounts] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything has a ceiling."""
        return bool(self.task or self.day or self.queues)


@dataclass(frozen=True, slots=True)
class Account:
    """What was spent and set aside for one scope (`day`, `queue`, `schedule`, `task`), day and unit."""

    id: int
    key: str
    scope: str
    name: str
    day: int
    unit: Unit
    ceiling: Amount | None
    raised: Amount
    reserved: Amount
    spent: Amount
    asked_task: int | None

    @property
    def allowed(self) -> Amount:
        """The ceiling with what persons have added to it."""
        return MOST if self.ceiling is None else self.ceiling + self.raised

    @property
    def left(self) -> Amount:
        """What is neither spent nor set aside."""
        return max(0, self.allowed - self.spent - self.reserved)


@dataclass(frozen=True, slots=True)
class Shortage:
    """An account that cannot pay; `for_good` means that no running attempt, and no new day, will change that."""

    account: Account
    need: Amount
    is_spent: bool
    """What is spent stands in the way; else only what is set aside, which running attempts may give back."""
    for_good: bool


def key(scope: str, name: str, day: int, unit: Unit) -> str:
    """Return the name of an account; in order of the names, accounts are locked."""
    return f"{scope}:{name}:{day}:{unit}"


def shortage(accounts: Iterable[Account], needs: Amounts) -> Shortage | None:
    """Return the account that cannot pay `needs`, or None; the task's own one comes first."""
    found: Shortage | None = None
    for account in accounts:
        need = needs.get(account.unit, 0)
        own = account.scope == "task"
        if account.ceiling is None or not (need < LEAST if own else _is_short(account, need)):
            continue
        if own:
            return Shortage(account, max(account.spent - account.allowed, 0) + ONE, is_spent=True, for_good=True)
        short = Shortage(
            account,
            need,
            is_spent=need == 0 or account.spent + need > account.allowed,
            for_good=need > account.ceiling or account.ceiling == 0,
        )
        if found is None or (short.is_spent and not found.is_spent):
            found = short
    return found


def _is_short(account: Account, need: Amount) -> bool:
    if need == 0:  # nobody knows what it will cost, so only what is spent counts
        return account.spent >= account.allowed
    return account.spent + account.reserved + need > account.allowed


def used(usage: Mapping[str, Any], seconds: float | None = None) -> dict[Unit, Amount]:
    """Return what an attempt reported to have used; `seconds` is how long it took, where it does not say."""
    found: dict[Unit, Amount] = {}
    for unit, (name, per) in REPORTED_AS.items():
        value = usage.get(name)
        if value is None and unit == "minutes":
            value = seconds
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            found[unit] = min(round(value / per * ONE), MOST)
    return found


def in_units(amounts: Amounts) -> dict[str, float]:
    """Return amounts as people write them, such as `{"usd": 4.25}`."""
    return {unit: round(amount / ONE, 6) for unit, amount in amounts.items()}


def shown(amount: Amount, unit: Unit) -> str:
    """Return an amount with its unit, such as `4.25 USD` or `30 turns`."""
    number = f"{amount / ONE:,.2f}" if unit == "usd" else f"{amount / ONE:,.6g}"
    return f"{number} {NAMES[unit]}"


def question(short: Shortage, task: str) -> str:
    """Return what a person is asked about a shortage."""
    account, unit = short.account, short.account.unit
    what = {
        "day": "The budget of the day",
        "queue": f"The budget of queue {account.name!r} for the day",
        "schedule": "The budget of its schedule for the day",
        "task": f"The budget of {task}",
    }[account.scope]
    state = f"of {shown(account.allowed, unit)}, {shown(account.spent, unit)} are spent"
    if account.reserved:
        state += f" and {shown(account.reserved, unit)} set aside for what is under way"
    wish = "" if account.scope == "task" or not short.need else f", and {task} may need {shown(short.need, unit)}"
    example = shown(suggested(short), unit).split(" ")[0]
    rest = "" if account.scope == "task" else " Without an answer it is tried again when the next day begins."
    return f"{what} is used up: {state}{wish}. Answer `continue with +{example}` or `stop`.{rest}"


def suggested(short: Shortage) -> Amount:
    """Return by how much a ceiling is raised when nobody says by how much."""
    account = short.account
    if account.scope == "task":
        return max(account.ceiling or 0, account.spent - account.allowed, CENT)
    missing = account.spent + short.need - account.allowed
    return max(missing, short.need, CENT)


def read_answer(text: str) -> Amount | Literal["stop"] | None:
    """Read `continue with +5`, `5`, `continue` (0: as much as is needed) or `stop`; None when it is none of these."""
    said = text.strip()
    if STOP.fullmatch(said):
        return "stop"
    go_on = GO_ON.match(said)
    rest = said[go_on.end() :] if go_on else said
    if go_on and not rest.strip(" .!"):
        return 0
    amount = AMOUNT.fullmatch(rest)
    return None if amount is None else round(float(amount[1]) * ONE)


def day_of(at: Micros, zone: str) -> int:
    """Return the number of the day in `zone`, counted from 1970-01-01."""
    return _day(at // (60 * ONE), zone)[0]


def next_day(at: Micros, zone: str) -> Micros:
    """Return when the day after begins in `zone`."""
    return _day(at // (60 * ONE), zone)[1]


@lru_cache(maxsize=256)
def _day(minute: int, zone: str) -> tuple[int, Micros]:
    tz = ZoneInfo(zone)
    day = datetime.fromtimestamp(minute * 60, tz).date()
    following = day + timedelta(days=1)
    begins = datetime(following.year, following.month, following.day, tzinfo=tz).timestamp()
    return (day - EPOCH).days, round(begins * ONE)


EPOCH = datetime(1970, 1, 1).date()  # noqa: DTZ001 - a day of the calendar, nowhere's

"""What clients were told, by their diaries, against what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from taskqueue_mcp import leases
from tests.reliability.clients import LANES
from tests.reliability.processes import read_diary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from taskqueue_mcp.store import Transaction
    from tests.reliability.processes import Entry

SECOND = 1_000_000
REFUSALS = {"create": {"invalid_input"}, "update": {"lease_lost"}, "complete": {"lease_lost"}, "fail": {"lease_lost"}}
"""What a client may be told: that what its task would depend on has failed, that it came too late."""
ENDED_BY = {"error": "failed", "permanent": "permanent", "release": "released"}


def read_all(paths: Iterable[Path]) -> dict[str, list[Entry]]:
    """Return the entries of each diary by its name."""
    return {path.stem: read_diary(path) for path in paths}


def acknowledged(paths: Iterable[Path]) -> int:
    """Return how many calls the clients had an answer to."""
    return sum("to" in entry for entries in read_all(paths).values() for entry in entries)


def untrue(
    transaction: Transaction, diaries: dict[str, list[Entry]], allowed: frozenset[str] = frozenset()
) -> list[str]:
    """Return what the clients were told that is not so, by the entries of their diaries.

    Any call may have been refused for an `allowed` reason; what was refused had no effect.
    """
    found: list[str] = []
    stored = Stored(transaction, allowed)
    for name, entries in diaries.items():
        calls = {entry["n"]: entry for entry in entries if "do" in entry}
        answers = [entry for entry in entries if "to" in entry]
        found += [f"{name}: {why}" for answer in answers for why in stored.against(calls[answer["to"]], answer)]
        unanswered = calls.keys() - {answer["to"] for answer in answers}
        if len(unanswered) > LANES:
            found.append(f"{name} has {len(unanswered)} calls unanswered at once")
    return found


class Stored:
    """What the file says of all that the clients did."""

    def __init__(self, transaction: Transaction, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        keys = transaction.all("SELECT idempotency_key, id FROM tasks WHERE idempotency_key IS NOT NULL")
        self._keys: dict[str, int] = dict(keys)
        tasks = transaction.all("SELECT id, status, result_summary FROM tasks")
        self._tasks = {task: (status, summary) for task, status, summary in tasks}
        attempts = transaction.all(
            "SELECT task_id, attempt, claim_id, lease_hash, outcome, error, result_summary, result_data FROM attempts"
        )
        self._attempts = {row[:2]: row[2:] for row in attempts}
        self._claim_ids = {claim_id for claim_id, *_ in self._attempts.values()}
        texts: dict[tuple[int, int], str] = defaultdict(str)
        chunks = transaction.all("SELECT task_id, attempt, text FROM log_chunks ORDER BY task_id, attempt, number")
        for task, attempt, text in chunks:
            texts[task, attempt] += text
        self._lines = Counter((*of, line) for of, text in texts.items() for line in text.splitlines())

    def against(self, call: Entry, answer: Entry) -> Iterator[str]:
        """Compare what was asked and answered with what is stored."""
        what = f"{call} was answered {answer}"
        if "refused" not in answer:
            if not self._is_so(call, answer):
                yield f"{what}, and that is not stored"
        elif answer["refused"] not in REFUSALS.get(call["do"], set()) | self._allowed:
            yield what
        elif self._had_effect(call, answer["refused"]):
            yield f"{what}, and had its effect"

    def _had_effect(self, call: Entry, refused: str) -> bool:
        match call["do"]:
            case "create":
                return call["key"] in self._keys
            case "claim":
                return call["claim_id"] in self._claim_ids
            case "update" if refused != "lease_lost":  # else it was repeated, and the lease had run out meanwhile
                return self._times(call) > 0
            case "complete" | "fail":
                return call["told"] in self._attempt(call)
            case _:
                return False

    def _times(self, call: Entry) -> int:
        """Return how often the line of an update stands in the log of its attempt."""
        lease = leases.parse(call["lease"])
        return self._lines[lease.task_id, lease.attempt, call["line"]]

    def _attempt(self, call: Entry) -> tuple[Any, ...]:
        lease = leases.parse(call["lease"])
        return tuple(self._attempts.get((lease.task_id, lease.attempt), (None,) * 6))

    def _is_so(self, call: Entry, answer: Entry) -> bool:
        match call["do"]:
            case "create":
                return bool(self._keys.get(call["key"]) == answer["task"])
            case "claim" if answer["lease"] is not None:
                claim_id, lease_hash, *_ = self._attempts.get((answer["task"], answer["attempt"]), (None, None))
                return (claim_id, lease_hash) == (call["claim_id"], leases.parse(answer["lease"]).hash)
            case "update":
                return self._times(call) == 1
            case "complete":
                _, _, outcome, _, summary, data = self._attempt(call)
                ended = (outcome, summary, data) == ("completed", call["told"], f'{{"by": "{call["told"]}"}}')
                return ended and self._tasks[answer["task"]] == ("completed", call["told"])
            case "fail":
                _, _, outcome, error, *_ = self._attempt(call)
                return (outcome, error) == (ENDED_BY[call["kind"]], call["told"])
            case _:
                return True


def gaps(transaction: Transaction) -> list[str]:
    """Return the due times of the one schedule, of every second, that did not fire exactly once."""
    ledger = transaction.all("SELECT due_at, fate, task_id FROM occurrences ORDER BY due_at")
    dues = {due for due, _, _ in ledger}
    found = [f"{row} did not fire" for row in ledger if row[1] not in {"fired", "late"}]
    found += [f"nothing at {due}" for due in range(min(dues), max(dues), SECOND) if due not in dues]
    runs = transaction.all("SELECT due_at, id FROM tasks WHERE due_at IS NOT NULL AND status <> 'cancelled'")
    if sorted(runs) != [(due, task) for due, _, task in ledger]:
        found.append(f"the runs {sorted(runs)} are not the ledger's {ledger}")
    return found

"""The statements of money: accounts, what is set aside for attempts, and tasks that cannot be paid for now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from taskqueue_mcp import budgets
from taskqueue_mcp.budgets import Account, Amount, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskqueue_mcp.store.database import Row, Transaction

ACCOUNT = "id, account, scope, name, day, unit, ceiling, raised, reserved, spent, asked_task"

LOCKED = f"SELECT {ACCOUNT} FROM spending WHERE {{among:account:accounts}} ORDER BY account {{lock}}"
FETCH = f"SELECT {ACCOUNT} FROM spending WHERE {{among:account:accounts}} ORDER BY account"
OF_DAY = f"SELECT {ACCOUNT} FROM spending WHERE day = :day ORDER BY scope, name, unit"
MAKE = """
INSERT INTO spending (account, scope, name, day, unit, ceiling)
VALUES (:account, :scope, :name, :day, :unit, :ceiling)
ON CONFLICT (account) DO NOTHING
"""
SET_CEILING = """
UPDATE spending
   SET ceiling = CAST(:ceiling AS {integer}),
       used_up = CASE WHEN CAST(:ceiling AS {integer}) IS NOT NULL
                       AND spent >= CAST(:ceiling AS {integer}) + raised THEN 1 ELSE 0 END
 WHERE account = :account
"""
RESERVE = """
UPDATE spending SET reserved = reserved + :amount
 WHERE account = :account AND (ceiling IS NULL OR spent + reserved + :amount <= ceiling + raised)
"""
SPEND = """
UPDATE spending
   SET spent = spent + :spent, reserved = reserved - :released,
       used_up = CASE WHEN ceiling IS NOT NULL AND spent + :spent >= ceiling + raised THEN 1 ELSE 0 END
 WHERE account = :account
"""
RAISE = f"""
UPDATE spending
   SET raised = raised + :amount, asked_task = NULL,
       used_up = CASE WHEN ceiling IS NOT NULL AND spent >= ceiling + raised + :amount THEN 1 ELSE 0 END
 WHERE account = :account
RETURNING {ACCOUNT}
"""
ASKED = "UPDATE spending SET asked_task = :task_id WHERE account = :account"

RESERVATIONS = """
SELECT unit, attempt, day, amount, accounts FROM reservations WHERE task_id = :task_id ORDER BY unit {lock}
"""
SET_ASIDE = """
INSERT INTO reservations (task_id, unit, attempt, day, amount, accounts)
VALUES (:task_id, :unit, :attempt, :day, :amount, :accounts)
ON CONFLICT (task_id, unit) DO UPDATE SET attempt = excluded.attempt, day = excluded.day, amount = excluded.amount,
  accounts = excluded.accounts
"""
GIVE_BACK = "DELETE FROM reservations WHERE task_id = :task_id AND unit = :unit"

HOLD = """
INSERT INTO unpaid (task_id, account, need, run_at, due_again_at, asked)
VALUES (:task_id, :account, :need, :run_at, :due_again_at, :asked)
ON CONFLICT (task_id) DO UPDATE SET account = excluded.account, need = excluded.need, run_at = excluded.run_at,
  due_again_at = excluded.due_again_at, asked = excluded.asked
"""
UNPAID = "SELECT task_id, account, need, run_at, due_again_at, asked FROM unpaid"
HELD = f"{UNPAID} WHERE task_id = :task_id"
PAYABLE = f"{UNPAID} WHERE due_again_at <= {{now}} ORDER BY due_again_at LIMIT :limit {{skip_locked}}"
WAITING = f"""
{UNPAID} WHERE account = :account AND asked <= :asked ORDER BY run_at, task_id LIMIT :limit {{skip_locked}}
"""
LOOK_AGAIN = "UPDATE unpaid SET due_again_at = {now} WHERE task_id = :task_id"
LET_GO = "DELETE FROM unpaid WHERE task_id = :task_id"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for a task, and in which accounts."""

    unit: Unit
    attempt: int
    day: int
    amount: Amount
    accounts: tuple[str, ...]


class Unpaid(NamedTuple):
    """A task that an account cannot pay for; `run_at` is what orders it, `due_again_at` when it is tried again."""

    task_id: int
    account: str
    need: Amount
    run_at: int
    due_again_at: int | None
    asked: int


class Line(NamedTuple):
    """An account that a task is paid from."""

    scope: str
    name: str
    day: int
    unit: Unit
    ceiling: Amount | None

    @property
    def key(self) -> str:
        """The account's name."""
        return budgets.key(self.scope, self.name, self.day, self.unit)


def locked(transaction: Transaction, lines: Iterable[Line]) -> list[Account]:
    """Return accounts that nobody else changes before this work is committed, with the ceilings they have now.

    They are always locked in the order of their names, so that no two works wait for each other.
    """
    wanted = {line.key: line for line in lines}
    found = _locked(transaction, tuple(wanted))
    if len(found) < len(wanted):
        for key, line in sorted(wanted.items()):
            if key not in found:
                transaction.run(MAKE, {"account": key, **line._asdict()})
        found = _locked(transaction, tuple(wanted))
    changed = [key for key, line in wanted.items() if found[key].ceiling != line.ceiling]
    for key in changed:
        transaction.run(SET_CEILING, {"account": key, "ceiling": wanted[key].ceiling})
    return list((_locked(transaction, tuple(wanted)) if changed else found).values())


def existing(transaction: Transaction, keys: Iterable[str]) -> list[Account]:
    """Return those of the accounts that exist, to be changed."""
    return list(_locked(transaction, tuple(keys)).values())


def fetch(transaction: Transaction, keys: Iterable[str]) -> list[Account]:
    """Return those of the accounts that exist, to be looked at."""
    return [_account(row) for row in transaction.all(FETCH, {"accounts": tuple(keys)})]


def of_day(transaction: Transaction, day: int) -> list[Account]:
    """Return the accounts of a day."""
    return [_account(row) for row in transaction.all(OF_DAY, {"day": day})]


def reserve(transaction: Transaction, key: str, amount: Amount) -> bool:
    """Set an amount aside; False when the account does not have it."""
    return transaction.run(RESERVE, {"account": key, "amount": amount}) > 0


def spend(transaction: Transaction, key: str, spent: Amount, released: Amount) -> None:
    """Count what was spent, and give back what had been set aside for it."""
    transaction.run(SPEND, {"account": key, "spent": spent, "released": released})


def raise_(transaction: Transaction, key: str, amount: Amount) -> Account | None:
    """Add to a ceiling; None when there is no such account."""
    row = transaction.first(RAISE, {"account": key, "amount": amount})
    return None if row is None else _account(row)


def asked(transaction: Transaction, key: str, task_id: int) -> None:
    """Note with which task a person was asked about an account."""
    transaction.run(ASKED, {"account": key, "task_id": task_id})


def reservations(transaction: Transaction, task_id: int) -> list[Reservation]:
    """Return what is set aside for a task."""
    return [
        Reservation(unit, attempt, day, amount, tuple(json.loads(accounts)))
        for unit, attempt, day, amount, accounts in transaction.all(RESERVATIONS, {"task_id": task_id})
    ]


def set_aside(transaction: Transaction, task_id: int, reservation: Reservation) -> None:
    """Note what is set aside for a task."""
    transaction.run(
        SET_ASIDE,
        {
            "task_id": task_id,
            "unit": reservation.unit,
            "attempt": reservation.attempt,
            "day": reservation.day,
            "amount": reservation.amount,
            "accounts": json.dumps(reservation.accounts),
        },
    )


def give_back(transaction: Transaction, task_id: int, unit: Unit) -> bool:
    """Note that nothing is set aside any more; False when nothing was."""
    return transaction.run(GIVE_BACK, {"task_id": task_id, "unit": unit}) > 0


def hold(transaction: Transaction, held: Unpaid) -> None:
    """Note that a task waits for an account."""
    transaction.run(HOLD, held._asdict())


def held(transaction: Transaction, task_id: int) -> Unpaid | None:
    """Return what a task waits for."""
    row = transaction.first(HELD, {"task_id": task_id})
    return None if row is None else Unpaid(*row)


def payable(transaction: Transaction, limit: int) -> list[Unpaid]:
    """Return held tasks that are to be tried again now."""
    return [Unpaid(*row) for row in transaction.all(PAYABLE, {"limit": limit})]


def waiting_for(transaction: Transaction, key: str, limit: int, *, also_asked: bool) -> list[Unpaid]:
    """Return the tasks that wait for an account, the first one first; about most of them nobody was asked."""
    params = {"account": key, "limit": limit, "asked": int(also_asked)}
    return [Unpaid(*row) for row in transaction.all(WAITING, params)]


def look_again(transaction: Transaction, task_id: int) -> None:
    """Have a held task tried again at once."""
    transaction.run(LOOK_AGAIN, {"task_id": task_id})


def let_go(transaction: Transaction, task_id: int) -> None:
    """Forget that a task was held."""
    transaction.run(LET_GO, {"task_id": task_id})


def _locked(transaction: Transaction, keys: tuple[str, ...]) -> dict[str, Account]:
    rows = transaction.all(LOCKED, {"accounts": keys})
    return {account.key: account for account in map(_account, rows)}


def _account(row: Row) -> Account:
    return Account(*row)

"""The statements of templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp.store.rows import TEMPLATE, as_template

if TYPE_CHECKING:
    from taskqueue_mcp.model import Template
    from taskqueue_mcp.store.database import Transaction

PUT = f"""
INSERT INTO templates (name, description, body, defaults, created_by, created_at, updated_at)
VALUES (:name, :description, :body, :defaults, :principal, {{now}}, {{now}})
ON CONFLICT (name) DO UPDATE
  SET description = excluded.description, body = excluded.body, defaults = excluded.defaults,
      updated_at = excluded.updated_at, seq = templates.seq + 1
RETURNING {TEMPLATE}
"""
BY_NAME = f"SELECT {TEMPLATE} FROM templates WHERE name = :name"
ALL = f"SELECT {TEMPLATE} FROM templates ORDER BY name {{bytewise}}"
DELETE = "DELETE FROM templates WHERE name = :name"
COUNTS = """
SELECT tasks.status, count(*), max(tasks.created_at)
  FROM bodies JOIN tasks ON tasks.id = bodies.task_id
 WHERE bodies.template = :name GROUP BY tasks.status
"""


def put(transaction: Transaction, name: str, description: str, body: str, defaults: str, principal: str) -> Template:
    """Store a template under its name, new or in place of the one that had it."""
    row = transaction.first(
        PUT,
        {
            "name": name,
            "description": description,
            "body": body,
            "defaults": defaults,
            "principal": principal,
        },
    )
    assert row is not None  # noqa: S101 - RETURNING of an upsert
    return as_template(row)


def by_name(transaction: Transaction, name: str) -> Template | None:
    """Return a template, or None."""
    row = transaction.first(BY_NAME, {"name": name})
    return None if row is None else as_template(row)


def all_templates(transaction: Transaction) -> list[Template]:
    """Return every template by name."""
    return [as_template(row) for row in transaction.all(ALL)]


def delete(transaction: Transaction, name: str) -> bool:
    """Delete a template; tasks made from it stay. False when there is none."""
    return transaction.run(DELETE, {"name": name}) == 1


def counts(transaction: Transaction, name: str) -> dict[str, tuple[int, int]]:
    """Return for each status how many tasks came from a template and when the newest was created."""
    return {status: (count, newest) for status, count, newest in transaction.all(COUNTS, {"name": name})}

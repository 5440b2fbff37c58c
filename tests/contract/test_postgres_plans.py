"""What a call does on PostgreSQL does not grow with the queue, with statistics and before there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.store import attempts, events, lists, tasks
from taskqueue_mcp.store.postgres import PostgresDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.database import Transaction
    from tests.postgres import Cluster

FILL = (
    "INSERT INTO queues (name) SELECT 'q' || i FROM generate_series(1, 5) AS i",
    """
    INSERT INTO tasks (title, task_type, executor, queue, priority, status, reason, run_at, sort_at, max_attempts,
                       created_by, created_at, finished_at)
    SELECT 't', 'type' || (i % 20), 'claude', 'q' || (i % 5 + 1), 'medium', kind.status, kind.reason,
           CASE kind.status WHEN 'pending' THEN 9000000000000000 ELSE 0 END + i, i, 3, 'p', i,
           CASE kind.status WHEN 'completed' THEN i END
      FROM (VALUES (1, 'ready', NULL), (2, 'completed', NULL), (3, 'pending', 'scheduled')) AS kind (n, status, reason)
           CROSS JOIN generate_series(1, 5000) AS i
     ORDER BY kind.n, i""",
    """
    INSERT INTO search (task_id, words)
    SELECT id, array_to_tsvector(ARRAY['count', 'word' || id % 700]) FROM tasks""",
    "INSERT INTO bodies (task_id, instructions, on_dependency_failure) SELECT id, 'do', 'fail' FROM tasks",
    """INSERT INTO events (subject, subject_id, seq, kind, principal, at)
       SELECT 'task', id, 1, 'created', 'p', 1 FROM tasks""",
)
VALUES: dict[str, Any] = {
    "worker": "w", "principal": "p", "lease_hash": "h", "lease_micros": 1, "lease_seconds": 1, "claim_id": None,
    "queues": ["q1", "q3"], "wanted": ["type3", "absent"], "id": 5, "limit": 100, "sort_at": -1, "after": 0,
    "reach": 21, "before": 1 << 40, "task_type": "absent", "queue": "q1", "status": "ready", "serial_key": "x",
    "window": 1, "key": "k", "created_by": "nobody", "ids": [5, 6], "xid": 0, "position": 14_900, "task_id": 5,
    "attempt": 1, "subject": "task", "subject_id": 5, "closed": ["absent"], "today": 20_000,
}  # fmt: skip
HOT = {
    **{name: text for name, text in vars(tasks).items() if name.startswith("TAKE_") and isinstance(text, str)},
    **{
        name: getattr(tasks, name)
        for name in (
            "NEXT_INSTANTS", "DUE", "EXPIRED", "UNTOUCHED", "BY_CLAIM", "BY_KEY", "LINE_IS_BUSY", "IN_LINE", "FETCH",
            "FETCH_LEASE", "FETCH_ORDER", "WAITED_FOR", "DEPENDS_ON", "STATUSES",
        )
    },
    "READY": lists.READY % ("any", "any"),
    "READY of a type": lists.READY % ("task_type", "named"),
    "TASKS": lists.TASKS % "",
    **{
        f"TASKS by {name}": lists.TASKS_OF % (name, name, name, name, "", name)
        for name in ("task_type", "queue", "created_by", "status")
    },
    "PROOF": attempts.PROOF,
    "FOLLOWING": events.FOLLOWING,
}  # fmt: skip
MOST_ROWS = 600
"""A page of a hundred, or 21 candidates of each queue: so many rows at most are looked at, of 15,000."""


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def full(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[PostgresDatabase]:
    name = cluster.new_database()
    with cluster.admin(name) as wire:
        wire.execute("SET search_path = taskqueue")
        wire.execute("ALTER TABLE tasks SET (autovacuum_enabled = false)")
        for statement in FILL:
            wire.execute(statement)
        if request.param == "with statistics":
            wire.execute("ANALYZE")
    database = PostgresDatabase(cluster.url(name))
    yield database
    database.close_now()
    cluster.drop(name)


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_looks_at_few_rows(full: PostgresDatabase, name: str) -> None:
    def explain(transaction: Transaction) -> list[Any]:
        plan: list[Any] = transaction.all(f"EXPLAIN (ANALYZE, FORMAT JSON) {HOT[name]}", VALUES)[0][0]
        return plan

    (told,) = full.write_now(explain)
    looked_at = {node["Node Type"] + " " + node.get("Relation Name", ""): rows(node) for node in nodes(told["Plan"])}
    assert max(looked_at.values()) <= MOST_ROWS, looked_at


@pytest.mark.parametrize("name", ["TAKE_OF_TYPES", "TAKE_OF_TYPES_FROM_QUEUES", "TAKE_FOR_EXECUTORS"])
def test_a_claim_for_which_there_is_nothing_looks_at_few_rows(full: PostgresDatabase, name: str) -> None:
    values = {**VALUES, "wanted": ["absent", "too"]}

    def explain(transaction: Transaction) -> list[Any]:
        plan: list[Any] = transaction.all(f"EXPLAIN (ANALYZE, FORMAT JSON) {HOT[name]}", values)[0][0]
        return plan

    (told,) = full.write_now(explain)
    assert max(rows(node) for node in nodes(told["Plan"])) <= MOST_ROWS, told["Plan"]


@pytest.mark.parametrize("search", ["word7", "count"])
def test_a_search_looks_at_little_more_than_it_finds(full: PostgresDatabase, search: str) -> None:
    values = {**VALUES, "match": f"'{search}'"}

    def explain(transaction: Transaction) -> list[Any]:
        transaction.first(lists.SEARCHING)
        plan: list[Any] = transaction.all(f"EXPLAIN (ANALYZE, FORMAT JSON) {lists.FOUND}", values)[0][0]
        return plan

    full.write_now(lambda transaction: transaction.run("ANALYZE search"))  # as the server itself does after a while
    (told,) = full.write_now(explain)
    assert max(rows(node) for node in nodes(told["Plan"])) <= MOST_ROWS, told["Plan"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def rows(node: dict[str, Any]) -> float:
    """How many rows a step of a plan read, those that it dropped included."""
    read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(read * max(node["Actual Loops"], 1))

"""What `doctor` looks at in a PostgreSQL database, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp.cli.finding import Finding
from taskqueue_mcp.store import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.store.postgres.inspection import Health

MOST_SKEW = 1.0
LONG_OPEN = 60.0
MANY_DEAD = 50_000
FEW_LEFT = 0.9
"""Of the connections that the server lets in, how many may be in use before it is told."""


def findings(health: Health) -> Iterator[Finding]:
    """Say what was found, well or not."""
    yield Finding("server", "ok", f"PostgreSQL {health.version}, {health.encoding}, primary, {health.place}")
    yield _rights(health)
    yield _schema(health)
    yield _durability(health)
    if health.pooled:
        text = (
            "a pooler stands between: nothing is prepared (?prepare) or hinted (?hint), and what other servers do is "
            "looked for every 20 to 100 ms"
        )
        do = "see that its query_wait_timeout is a few seconds, or calls hang while the database is away"
        yield Finding("pooler", "ok", text, do)
    yield _connections(health)
    yield from _rows(health)
    yield _clock(health)


def _rights(health: Health) -> Finding:
    if health.number and not health.may_write:
        do = (
            f"let its owner run: GRANT USAGE ON SCHEMA {health.schema} TO {health.role}; "
            f"GRANT ALL ON ALL TABLES IN SCHEMA {health.schema} TO {health.role}"
        )
        return Finding("rights", "fail", f"{health.role} may not write to every table of {health.schema}", do)
    if not health.number and not health.may_create:
        do = f"let an administrator run: CREATE SCHEMA {health.schema} AUTHORIZATION {health.role}"
        return Finding("rights", "fail", f"{health.role} may not make the schema {health.schema}", do)
    return Finding("rights", "ok", f"{health.role} may do what is needed in {health.schema}")


def _schema(health: Health) -> Finding:
    newest = migrate.latest()
    if health.number is None:
        return Finding("schema", "warn", f"there is no schema {health.schema} yet",
                       "the first command that uses it makes it")  # fmt: skip
    if health.number > newest:
        return Finding("schema", "fail", f"number {health.number} is of a newer program than this one ({newest})",
                       "restart with the new version")  # fmt: skip
    if health.number < newest:
        return Finding("schema", "warn", f"number {health.number} of {newest}",
                       "the next start of a server brings it up to date")  # fmt: skip
    return Finding("schema", "ok", f"number {health.number} of {newest}")


def _durability(health: Health) -> Finding:
    if not health.whole:
        do = "set fsync = on and full_page_writes = on"
        return Finding("durability", "fail", "a power cut may lose or damage what was committed", do)
    set_to = "on for each of our commits" if health.synchronous == "off" else health.synchronous
    text = f"fsync on, synchronous_commit {set_to}"
    if health.standbys:
        return Finding("durability", "ok", f"{text}, synchronous standbys {health.standbys}")
    return Finding("durability", "ok", f"{text}; without a synchronous standby, a failover may lose the last commits")


def _connections(health: Health) -> Finding:
    needs = health.pool + 1
    text = f"{health.connections} of {health.most_connections} in use; each server takes up to {needs}"
    left = health.most_connections - health.connections
    if left < needs:
        return Finding("connections", "fail", text, "lower ?pool, raise max_connections, or put a pooler between")
    if health.connections > health.most_connections * FEW_LEFT:
        return Finding("connections", "warn", text, "lower ?pool, raise max_connections, or put a pooler between")
    return Finding("connections", "ok", text)


def _rows(health: Health) -> Iterator[Finding]:
    if health.oldest is not None and health.oldest[1] > LONG_OPEN:
        process, age, program = health.oldest
        yield Finding("transactions", "warn", f"one has been open for {age:,.0f} s ({program or 'process'} {process}): "
                      "dead rows stay, claims get slower and readers of the event log wait",
                      f"end it: SELECT pg_terminate_backend({process})")  # fmt: skip
    else:
        yield Finding("transactions", "ok", "none has been open for long")
    if health.dead is not None:
        table, dead, alive = health.dead
        many = dead > MANY_DEAD and dead > alive
        yield Finding("vacuum", "warn" if many else "ok", f"{table} has {dead:,} dead rows beside {alive:,} live ones",
                      f"see that autovacuum runs, or run: VACUUM {health.schema}.{table}" if many else "")  # fmt: skip
    if health.ahead:
        yield Finding("events", "fail", "events are of transactions that are still to come (rows of another cluster "
                      "were put here), so readers of the log would wait for them",
                      f"run: UPDATE {health.schema}.events SET xid = '3'")  # noqa: S608 - told, not run  # fmt: skip


def _clock(health: Health) -> Finding:
    text = f"this machine is {abs(health.skew):.3f} s {'ahead of' if health.skew > 0 else 'behind'} the database"
    if abs(health.skew) > MOST_SKEW:
        return Finding("clock", "warn", f"{text}; leases and schedules go by the database's", "set both by NTP")
    return Finding("clock", "ok", text)

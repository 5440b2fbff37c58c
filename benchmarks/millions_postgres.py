"""The same on PostgreSQL: a million finished tasks and a million ready ones, beside a thousand of each."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from benchmarks.filling import fill_postgres
from benchmarks.measuring import Figure
from benchmarks.millions import FOUND, RARE, compare, sizes
from benchmarks.peers.environment import MissingProgram
from benchmarks.peers.servers import postgres
from taskqueue_mcp.store import open_database

if TYPE_CHECKING:
    from benchmarks.peers.servers import Postgres


def run(*, quick: bool) -> list[Figure]:
    """On a cluster of its own, over a unix socket."""
    try:
        with postgres() as server:
            return compare({size: _database(server, size) for size in sizes(quick=quick)}, quick=quick)
    except MissingProgram as missing:
        return [Figure("PostgreSQL", str(missing))]


def _database(server: Postgres, size: int) -> str:
    name = f"with_{size}"
    url = server.database(name)
    open_database(url).close_now()
    fill_postgres(
        lambda statement: server.psql(name, statement, schema="taskqueue"),
        ready=2 * size, last=size, title=RARE, step=2 * size // FOUND,
    )  # fmt: skip
    return f"{url}&options={quote('-c synchronous_commit=off')}"

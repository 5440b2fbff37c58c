"""What a PostgreSQL database says of itself, for `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskqueue_mcp.store import migrate
from taskqueue_mcp.store.inspection import Facts

if TYPE_CHECKING:
    from taskqueue_mcp.store.database import Transaction

SETTINGS = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
       current_setting('full_page_writes')
"""
TABLES = """
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name
"""
OWN = frozenset({"schema_number", "search"})


def inspect(transaction: Transaction) -> Facts:
    """Read the settings that durability rests on, and count."""
    version, synchronous, fsync, pages = transaction.all(SETTINGS)[0]
    names = [name for (name,) in transaction.all(TABLES) if name not in OWN]
    return Facts(
        engine=f"PostgreSQL {version.split()[0]}",
        journal="wal" if (fsync, pages) == ("on", "on") else f"wal without fsync={fsync}, full_page_writes={pages}",
        synchronous="on" if synchronous == "off" else synchronous,  # each of our transactions turns it on
        schema=transaction.all("SELECT number FROM schema_number")[0][0],
        newest_schema=migrate.latest(),
        rows={name: transaction.all(f"SELECT count(*) FROM {name}")[0][0] for name in names},
    )

"""PostgreSQL: as many servers and workers as you like on one database, with the same promises as on a file."""

from taskqueue_mcp.store.postgres.database import PostgresDatabase

__all__ = ["PostgresDatabase"]

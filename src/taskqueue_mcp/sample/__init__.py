"""A made-up shop to try the queue on: its stock, five weeks of sales, and a week of checks of its services."""

from __future__ import annotations

import csv
import secrets
from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES: Final = """
CREATE TABLE products (
    sku            TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    category       TEXT NOT NULL,
    supplier       TEXT NOT NULL,
    quantity       INTEGER NOT NULL CHECK (quantity >= 0),
    reorder_point  INTEGER NOT NULL CHECK (reorder_point >= 0),
    lead_time_days INTEGER NOT NULL CHECK (lead_time_days > 0),
    pack_size      INTEGER NOT NULL CHECK (pack_size > 0),
    unit_cost      REAL NOT NULL,
    unit_price     REAL NOT NULL,
    daily_sales    REAL NOT NULL
) STRICT;
CREATE TABLE sales (
    sale_date  TEXT NOT NULL,
    sku        TEXT NOT NULL REFERENCES products (sku),
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    unit_price REAL NOT NULL,
    PRIMARY KEY (sale_date, sku)
) STRICT, WITHOUT ROWID;
CREATE TABLE health_checks (
    checked_at TEXT NOT NULL,
    service    TEXT NOT NULL,
    status     INTEGER NOT NULL CHECK (status BETWEEN 100 AND 599),
    latency_ms INTEGER NOT NULL CHECK (latency_ms >= 0),
    PRIMARY KEY (checked_at, service)
) STRICT, WITHOUT ROWID;
"""
# STRICT columns turn the text of the CSVs into numbers, or refuse it.
INSERT_PRODUCT: Final = "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_SALE: Final = "INSERT INTO sales VALUES (?, ?, ?, ?)"
INSERT_CHECK: Final = "INSERT INTO health_checks VALUES (?, ?, ?, ?)"


def build(path: Path) -> None:
    """Make the SQLite file with the tables `products`, `sales` and `health_checks`; it appears whole or not at all.

    Raises:
        InvalidInput: something is there already; it is left as it is.
    """
    if path.exists():
        raise InvalidInput(f"{path.name} exists already; remove it or choose another name for the sample")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with closing(sqlite.connect(part)) as connection:
            connection.executescript(TABLES)
            connection.executemany(INSERT_PRODUCT, _rows("inventory.csv"))
            connection.executemany(INSERT_SALE, _rows("sales.csv"))
            connection.executemany(INSERT_CHECK, _rows("health_checks.csv"))
            connection.commit()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rows(name: str) -> Iterator[list[str]]:
    with files(__name__).joinpath(name).open(encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        yield from rows

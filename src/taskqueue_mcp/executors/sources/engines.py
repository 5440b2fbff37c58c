"""What differs between databases behind a URL: how only reading is made sure of, how a query is ended at the server."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.sources.binding import BACKSLASHES, STANDARD, must_read
from taskqueue_mcp.executors.sources.reading import ReadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection

CONNECT_SECONDS: Final = 10
MILLISECONDS: Final = 1_000
ONLY_READING: Final = "only reading is allowed"
ONE_STATEMENT: Final = "it holds more than one statement; send each by itself"


class Engine(ABC):
    """One kind of database. `raw` is the driver's own connection."""

    driver: ClassVar[str]
    needs: ClassVar[tuple[str, str]]
    """The module of the driver, and the extra that brings it."""
    opaque: ClassVar[str] = STANDARD

    def lack(self, url: URL) -> str | None:  # noqa: ARG002 - one of them looks at it
        """What is missing on this machine, in a line."""
        module, extra = self.needs
        return None if find_spec(module) else f"its driver is missing; pip install 'taskqueue-mcp[{extra}]'"

    @abstractmethod
    def arguments(self, seconds: int) -> dict[str, Any]:
        """What the driver connects with, beyond the URL; `seconds` is how long that may take."""

    @abstractmethod
    def begin(self, connection: Connection, seconds: float) -> None:
        """Start a transaction that can only read, with statements of at most `seconds`."""

    @abstractmethod
    def cursor(self, raw: Any) -> Any:
        """A cursor whose rows stay at the server until they are fetched."""

    def examine(self, raw: Any, sql: str) -> None:  # noqa: ARG002 - one of them asks its parser
        """Refuse what is no single statement that reads; `sql` is as the driver gets it.

        Raises:
            ReadFailed: it is something else.
        """
        must_read(sql)

    def check(self, raw: Any, sql: str, params: Any) -> None:
        """Have the server look at a statement without running it."""
        with closing(self.cursor(raw)) as cursor:
            cursor.execute(f"EXPLAIN {sql}", params)
            cursor.fetchall()

    @abstractmethod
    def interrupt(self, raw: Any, url: URL) -> None:
        """End what runs on `raw`, from another thread."""

    def abandon(self, raw: Any) -> None:  # noqa: B027 - most of them have nothing to do
        """Leave a result that may not have been read to its end, before the connection is closed."""

    @abstractmethod
    def failure(self, error: Exception) -> ReadFailed:
        """What the driver's error means."""


class Postgres(Engine):
    """PostgreSQL, and what speaks like it. A statement is declared as a cursor, which takes nothing but what reads."""

    driver = "postgresql+psycopg"
    needs = ("psycopg", "postgres")

    def arguments(self, seconds: int) -> dict[str, Any]:
        """Without prepared statements: a pooler would give them to another."""
        return {"connect_timeout": seconds, "application_name": "taskqueue-mcp", "prepare_threshold": None}

    def begin(self, connection: Connection, seconds: float) -> None:
        """One snapshot for all statements; once it is taken, nothing makes the transaction writable."""
        limit = f"{max(1, round(seconds * MILLISECONDS))}"
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {limit}")
        connection.exec_driver_sql("SELECT 1")

    def cursor(self, raw: Any) -> Any:
        """A cursor of the server's; there may be several in one transaction."""
        return raw.cursor(name=f"taskqueue_{secrets.token_hex(8)}")

    def check(self, raw: Any, sql: str, params: Any) -> None:
        """Declare the cursor and fetch nothing: EXPLAIN would go out in a way that takes several statements."""
        with closing(self.cursor(raw)) as cursor:
            cursor.execute(sql, params)

    def interrupt(self, raw: Any, url: URL) -> None:  # noqa: ARG002 - the connection knows its server
        """Ask the server to cancel."""
        raw.cancel_safe(timeout=CONNECT_SECONDS)

    def failure(self, error: Exception) -> ReadFailed:
        """By its SQLSTATE; what never got as far as one is a connection that failed."""
        state = str(getattr(error, "sqlstate", None) or "")
        line = str(error).strip().split("\n", 1)[0]
        if state == "57014":
            return ReadFailed("the server ended it, as it took too long; narrow it", passing=True)
        if state == "25006" or "DECLARE CURSOR" in line:
            return ReadFailed(f"{ONLY_READING} ({line})")
        if "multiple commands" in line:
            return ReadFailed(ONE_STATEMENT)
        if not state and type(error).__name__ == "OperationalError":
            return ReadFailed(f"it cannot be reached: {line}", passing=not _names_fault(line))
        return ReadFailed(line, passing=state[:2] in {"08", "40", "53", "55", "57", "58"})


class MySql(Engine):
    """MySQL, MariaDB and TiDB. The driver sends one statement at a time."""

    driver = "mysql+pymysql"
    needs = ("pymysql", "mysql")
    opaque = BACKSLASHES

    REACHING_OUT: ClassVar = re.compile(r"\b(outfile|dumpfile|load_file)\b|/\*M?!", re.IGNORECASE)
    """What writes or reads files of the server, which no transaction forbids, and comments that are run."""
    LOCKING: ClassVar = re.compile(r"\bfor\s+update\b|\bin\s+share\s+mode\b|\bfor\s+share\b", re.IGNORECASE)
    PASSING: ClassVar = frozenset({1040, 1053, 1203, 1205, 1213, 2002, 2003, 2006, 2013, 2055, 9001, 9002, 9005})
    TOO_LONG: ClassVar = frozenset({1317, 1907, 1969, 3024})

    def arguments(self, seconds: int) -> dict[str, Any]:
        """A character set that holds every character; no file of this machine is ever sent."""
        return {"connect_timeout": seconds, "charset": "utf8mb4", "local_infile": False}

    def begin(self, connection: Connection, seconds: float) -> None:
        """The limit of a statement has two names: MariaDB's is in seconds, that of MySQL and TiDB in milliseconds."""
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        limit = f"max_statement_time = {seconds:.3f}" if is_mariadb else f"max_execution_time = {round(seconds * 1000)}"
        connection.exec_driver_sql(f"SET SESSION {limit}")
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def examine(self, raw: Any, sql: str) -> None:  # noqa: ARG002 - it has no parser to ask
        """Also what its transactions allow and reading does not need."""
        must_read(sql)
        if found := self.REACHING_OUT.search(sql) or self.LOCKING.search(sql):
            raise ReadFailed(f"{ONLY_READING}, no files of the server, locks or comments that are run ({found[0]})")

    def cursor(self, raw: Any) -> Any:
        """A cursor that reads rows as they come."""
        from pymysql.cursors import SSCursor  # noqa: PLC0415 - whoever gets here has it

        return raw.cursor(SSCursor)

    def check(self, raw: Any, sql: str, params: Any) -> None:
        """SHOW and DESCRIBE are not explained."""
        if not re.match(r"\s*(show|desc|describe)\b", sql, re.IGNORECASE):
            super().check(raw, sql, params)

    def interrupt(self, raw: Any, url: URL) -> None:
        """Ask over a second connection."""
        import pymysql  # noqa: PLC0415 - whoever gets here has it

        given = {key: value for key, value in url.query.items() if key.startswith("ssl")}
        with (
            suppress(pymysql.Error, OSError),
            pymysql.connect(
                host=url.host, port=url.port or 3306, user=url.username, password=url.password or "",
                connect_timeout=CONNECT_SECONDS, read_timeout=CONNECT_SECONDS, **given,
            ) as other,
            other.cursor() as cursor,
        ):  # fmt: skip
            cursor.execute(f"KILL QUERY {int(raw.thread_id())}")

    def abandon(self, raw: Any) -> None:
        """Nobody reads the rest: the driver would, to the last of its rows, whenever it drops the result."""
        result = getattr(raw, "_result", None)
        if result is not None:
            result.unbuffered_active = False

    def failure(self, error: Exception) -> ReadFailed:
        """By its number."""
        number, line = (*error.args, "", "")[:2]
        line = " ".join(str(line or error).split())
        if number in self.TOO_LONG:
            return ReadFailed("the server ended it, as it took too long; narrow it", passing=True)
        if number in {1792, 1290, 1836}:
            return ReadFailed(f"{ONLY_READING} ({line})")
        if number in {1044, 1045, 1049, 2003}:
            return ReadFailed(f"it cannot be reached: {line}", passing=number in self.PASSING)
        if number == 1064 and ";" in line:  # noqa: PLR2004 - the number of a syntax error
            return ReadFailed(f"{line} (is it more than one statement?)")
        return ReadFailed(line, passing=number in self.PASSING)


class DuckDb(Engine):
    """A file of DuckDB's, read only, which reads no other file and loads no extension."""

    driver = "duckdb"
    needs = ("duckdb_engine", "duckdb")

    CONFIG: ClassVar[Mapping[str, str]] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        "memory_limit": "1GB",
        "lock_configuration": "true",
    }

    def lack(self, url: URL) -> str | None:
        """Also whether there is no file."""
        missing = not Path(url.database or "").is_file()
        return super().lack(url) or (f"there is no file {url.database}; correct its path" if missing else None)

    def arguments(self, seconds: int) -> dict[str, Any]:  # noqa: ARG002 - it connects to nobody
        """Everything is settled before the first statement, and none can change it."""
        return {"read_only": True, "config": dict(self.CONFIG)}

    def begin(self, connection: Connection, seconds: float) -> None:
        """It has no time limit of its own; the file was opened for reading."""

    def cursor(self, raw: Any) -> Any:
        """Its rows are made as they are fetched."""
        return raw.cursor()

    def examine(self, raw: Any, sql: str) -> None:
        """By its own parser."""
        import duckdb  # noqa: PLC0415 - whoever gets here has it

        try:
            statements = raw.extract_statements(sql)
        except duckdb.Error as error:
            raise self.failure(error) from None
        if len(statements) > 1:
            raise ReadFailed(ONE_STATEMENT)
        if not statements or statements[0].type != duckdb.StatementType.SELECT:
            kind = statements[0].type.name if statements else "nothing"
            raise ReadFailed(f"{ONLY_READING}; begin with SELECT or WITH, not with {kind}")

    def interrupt(self, raw: Any, url: URL) -> None:  # noqa: ARG002 - it is in this program
        """End it here."""
        raw.interrupt()

    def failure(self, error: Exception) -> ReadFailed:
        """By the kind that its text begins with."""
        line = str(error).strip().split("\n", 1)[0]
        if "read-only mode" in line:
            return ReadFailed(f"{ONLY_READING} ({line})")
        if "Could not set lock" in line:
            return ReadFailed("it is locked by another program", passing=True)
        return ReadFailed(line, passing=type(error).__name__ == "OutOfMemoryException")


ENGINES: Final[Mapping[str, Engine]] = {
    "postgresql": Postgres(),
    "postgres": Postgres(),
    "mysql": MySql(),
    "mariadb": MySql(),
    "tidb": MySql(),
    "duckdb": DuckDb(),
}


def engine_of(url: URL) -> Engine:
    """The kind of database that a URL names, whatever driver it asks for.

    Raises:
        SettingsRefused: it is none of those there are.
    """
    name = url.drivername.split("+", 1)[0]
    if name not in ENGINES:
        raise SettingsRefused(f"{name}:// is no source; there are sqlite, {', '.join(ENGINES)}")
    return ENGINES[name]


def _names_fault(line: str) -> bool:
    """Whether the server let us know that another attempt would not get in either."""
    return any(word in line for word in ("authentication failed", "does not exist", "no pg_hba.conf entry"))

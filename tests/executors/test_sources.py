"""Sources: the same promises on every engine, each a real one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.sources.databases import Database
from taskqueue_mcp.executors.sources.reading import Halted, Reader, ReadFailed, Source
from tests.executors.databases import ENDLESS, ENGINES, PAIRS, InDuckDb, InMariaDb, InPostgres, InSqlite, Kept

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres import Cluster

SECONDS = 20.0
SECRET = "s3cret-word"  # noqa: S105 - nobody's


@pytest.fixture(params=ENGINES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    match request.param:
        case "postgres":
            return InPostgres(request.getfixturevalue("cluster"))
        case "mariadb":
            return InMariaDb(request.getfixturevalue("mariadb_server"), f"stock_{abs(hash(tmp_path))}")
        case "duckdb":
            return InDuckDb(tmp_path)
        case _:
            return InSqlite(tmp_path)


def read(source: Source, sql: str, params: dict[str, Any] | None = None, **given: Any) -> tuple[list[str], list[Any]]:
    reader = source.open(**({"seconds": SECONDS, "most_rows": 1_000_000} | given))
    with reader.opened():
        reader.check(sql, params or {})
        columns, rows = reader.read(sql, params or {})
        return columns, [tuple(row) for row in rows]


def refused(source: Source, sql: str, **given: Any) -> ReadFailed:
    with pytest.raises(ReadFailed) as failed:
        read(source, sql, **given)
    assert "\n" not in str(failed.value)
    return failed.value


def test_columns_and_rows_come_in_order(kept: Kept) -> None:
    columns, rows = read(kept.source, "SELECT id, name AS label, quantity FROM stock ORDER BY id")

    assert columns == ["id", "label", "quantity"]
    assert rows == [(1, "Anvil", 3), (2, "Büchse ✓", 40), (3, None, -5), (4, "=1+1", 9)]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 96, 1_000, 10_001])
def test_every_row_comes_once_however_many_there_are(kept: Kept, count: int) -> None:
    _, rows = read(kept.source, f"SELECT 1 AS one {PAIRS} LIMIT {count}")

    assert len(rows) == count


def test_parameters_are_bound_and_never_pasted_in(kept: Kept) -> None:
    sql = (
        "SELECT id, ':gone' AS text, '100%' AS share FROM stock -- not :this either\n"
        "WHERE sku = :sku OR name = :name /* nor :that */ ORDER BY id"
    )

    columns, rows = read(kept.source, sql, {"sku": "A-1", "name": "x' OR '1'='1", "unused": 1})

    assert columns == ["id", "text", "share"]
    assert rows == [(1, ":gone", "100%")]


def test_a_missing_parameter_is_named(kept: Kept) -> None:
    assert "needs the parameter :least" in str(refused(kept.source, "SELECT * FROM stock WHERE quantity > :least"))


def test_a_semicolon_at_the_end_is_no_second_statement(kept: Kept) -> None:
    assert read(kept.source, "SELECT count(*) AS n FROM stock;")[1] == [(4,)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM stock",
        "INSERT INTO stock VALUES (9, 'x', 'x', 1)",
        "UPDATE stock SET quantity = 0",
        "DROP TABLE stock",
        "CREATE TABLE more (n integer)",
        "TRUNCATE TABLE stock",
        "SELECT 1 AS n; DELETE FROM stock",
        "SELECT 1 AS n; COMMIT; DELETE FROM stock",
        "WITH gone AS (DELETE FROM stock RETURNING *) SELECT * FROM gone",
        "COMMIT",
        "BEGIN",
        "EXPLAIN ANALYZE DELETE FROM stock",
        "ATTACH 'other.db'",
        "SET SESSION TRANSACTION READ WRITE",
        "/* harmless */ DELETE FROM stock",
        "",
    ],
)
def test_what_does_anything_but_read_is_refused_for_good_and_changes_nothing(kept: Kept, sql: str) -> None:
    failed = refused(kept.source, sql)

    assert not failed.passing
    assert kept.count() == 4


@pytest.mark.parametrize("sql", ["SELECT * FROM nowhere", "SELECT nothing FROM stock", "SELEC 1", "SELECT ("])
def test_bad_sql_is_said_in_a_line_and_is_for_good(kept: Kept, sql: str) -> None:
    assert not refused(kept.source, sql).passing


def test_more_rows_than_allowed_are_an_error_and_not_a_shorter_answer(kept: Kept) -> None:
    assert len(read(kept.source, "SELECT * FROM stock", most_rows=4)[1]) == 4
    assert "more than 3 rows" in str(refused(kept.source, "SELECT * FROM stock", most_rows=3))


def test_an_endless_query_ends_when_its_time_is_up(kept: Kept) -> None:
    begun = time.monotonic()
    failed = refused(kept.source, ENDLESS, seconds=0.5)

    assert str(failed).startswith("timed out after 0.5 s")
    assert failed.passing
    assert time.monotonic() - begun < 5


def in_a_thread(reader: Reader, sql: str, started: threading.Event) -> tuple[threading.Thread, list[BaseException]]:
    ended: list[BaseException] = []

    def go() -> None:
        try:
            with reader.opened():
                started.set()
                list(reader.read(sql, {})[1])
        except (ReadFailed, Halted) as error:
            ended.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    return thread, ended


def test_a_query_that_is_told_to_stop_ends_at_once_also_at_the_server(kept: Kept) -> None:
    reader, started = kept.source.open(seconds=60, most_rows=10), threading.Event()
    thread, ended = in_a_thread(reader, ENDLESS, started)
    assert started.wait(10)

    reader.halt()
    thread.join(5)

    assert not thread.is_alive()
    assert [type(error) for error in ended] == [Halted]
    if isinstance(kept, InPostgres | InMariaDb):
        assert eventually_none(kept.open_visits)


def eventually_none(count: Callable[[], int]) -> bool:
    deadline = time.monotonic() + 5
    while count():
        if time.monotonic() > deadline:
            return False
    return True


def test_a_reader_that_was_halted_before_does_not_begin(kept: Kept) -> None:
    reader = kept.source.open(seconds=5, most_rows=10)
    reader.halt()

    with pytest.raises(Halted), reader.opened():
        pass


def test_a_result_that_nobody_reads_to_its_end_is_left_without_waiting(kept: Kept) -> None:
    reader = kept.source.open(seconds=30, most_rows=10**9)
    begun = time.monotonic()
    with reader.opened():
        _, rows = reader.read(f"SELECT a.n {PAIRS}, numbers f, numbers g, numbers h", {})
        next(rows)

    assert time.monotonic() - begun < 5
    assert read(kept.source, "SELECT count(*) AS n FROM stock")[1] == [(4,)]


@pytest.fixture
def of_postgres(cluster: Cluster) -> InPostgres:
    return InPostgres(cluster)


def test_all_statements_of_a_visit_see_the_same_moment(of_postgres: InPostgres, cluster: Cluster) -> None:
    reader = of_postgres.source.open(seconds=10, most_rows=100)
    with reader.opened():
        first = list(reader.read("SELECT count(*) FROM stock", {})[1])
        with cluster.admin(of_postgres._name) as wire:
            wire.execute("DELETE FROM stock")
        second = list(reader.read("SELECT count(*) FROM stock", {})[1])

    assert first == second == [(4,)]


def test_a_list_is_bound_for_in(kept: Kept) -> None:
    if isinstance(kept, InSqlite):
        sql = "SELECT id FROM stock WHERE sku IN (SELECT value FROM json_each(:skus)) ORDER BY id"
    else:
        sql = "SELECT id FROM stock WHERE sku IN :skus ORDER BY id"

    assert read(kept.source, sql, {"skus": ["A-1", "C-3", "it's"]})[1] == [(1,), (3,)]
    if not isinstance(kept, InSqlite):
        with pytest.raises(ReadFailed, match="the list :skus is empty"):
            read(kept.source, sql, {"skus": []})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('default_transaction_read_only', 'off', false) FROM (SELECT nextval('counter')) n",
        "SELECT * FROM stock FOR UPDATE",
    ],
)
def test_no_function_makes_a_postgres_transaction_writable(of_postgres: InPostgres, cluster: Cluster, sql: str) -> None:
    with cluster.admin(of_postgres._name) as wire:
        wire.execute("CREATE SEQUENCE counter")

    assert not refused(of_postgres.source, sql).passing


def test_a_time_limit_that_the_statement_lifts_holds_all_the_same(of_postgres: InPostgres) -> None:
    failed = refused(of_postgres.source, "SELECT set_config('statement_timeout', '0', true), pg_sleep(30)", seconds=0.5)

    assert failed.passing


@pytest.fixture
def of_mariadb(request: pytest.FixtureRequest, tmp_path: Path) -> InMariaDb:
    if "mariadb" not in ENGINES:
        pytest.skip("mariadb-server is not installed on this machine")
    return InMariaDb(request.getfixturevalue("mariadb_server"), f"stock_{abs(hash(tmp_path))}")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM stock INTO OUTFILE '{folder}/stolen'",
        "SELECT * FROM stock /*!50000 INTO/**/ DUMPFILE '{folder}/stolen' */",
        "SELECT load_file('/etc/passwd')",
        "/*! DELETE FROM stock */",
        "/*M! DELETE FROM stock */",
        "SELECT * FROM stock FOR UPDATE",
        "SELECT * FROM stock LOCK IN SHARE MODE",
    ],
)
def test_what_a_transaction_of_mariadb_would_allow_is_refused_too(
    of_mariadb: InMariaDb, tmp_path: Path, sql: str
) -> None:
    assert "only reading is allowed" in str(refused(of_mariadb.source, sql.format(folder=tmp_path)))
    assert of_mariadb.count() == 4


def test_a_write_that_got_past_us_is_refused_by_mariadb(of_mariadb: InMariaDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskqueue_mcp.executors.sources.engines.MySql.examine", lambda *_: None)
    reader = of_mariadb.source.open(seconds=10, most_rows=10)

    with pytest.raises(ReadFailed, match="only reading is allowed"), reader.opened():
        reader.read("DELETE FROM stock", {})
    assert of_mariadb.count() == 4


def test_a_write_that_got_past_us_is_refused_by_postgres(
    of_postgres: InPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskqueue_mcp.executors.sources.engines.must_read", lambda *_: None)
    for sql in (
        "DELETE FROM stock",
        "SELECT 1; DELETE FROM stock",
        "WITH x AS (DELETE FROM stock RETURNING *) TABLE x",
    ):
        reader = of_postgres.source.open(seconds=10, most_rows=10)
        with pytest.raises(ReadFailed), reader.opened():
            reader.read(sql, {})
    assert of_postgres.count() == 4


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM '{file}'", "disabled by configuration"),
        ("SELECT * FROM read_csv('{file}')", "disabled by configuration"),
        ("SELECT * FROM read_text('{file}')", "disabled by configuration"),
        ("SELECT * FROM glob('/*')", "disabled by configuration"),
    ],
)
def test_duckdb_reads_no_other_file(tmp_path: Path, sql: str, said: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")

    assert said in str(refused(InDuckDb(tmp_path).source, sql.format(file=other)))


@pytest.mark.parametrize(
    "sql",
    ["SET memory_limit = '99GB'", "INSTALL httpfs", "COPY stock TO 'x.csv'", "PRAGMA version", "CALL pragma_version()"],
)
def test_duckdb_changes_none_of_its_settings(tmp_path: Path, sql: str) -> None:
    assert "only reading is allowed" in str(refused(InDuckDb(tmp_path).source, sql))


def test_variables_of_ours_are_no_tables_of_duckdb(tmp_path: Path) -> None:
    secrets = [("token",)]  # what a replacement scan would find

    failed = refused(InDuckDb(tmp_path).source, "SELECT * FROM secrets")

    assert "secrets" in str(failed)
    assert secrets


def test_a_duckdb_file_that_another_program_writes_is_locked_for_now(tmp_path: Path) -> None:
    kept = InDuckDb(tmp_path)
    with holding(kept.path):
        failed = refused(kept.source, "SELECT 1 AS n")

    assert failed.passing
    assert "locked" in str(failed)


def holding(path: Path) -> Holder:
    return Holder(path)


class Holder:
    """Another process that has a DuckDB file open for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        import subprocess  # noqa: PLC0415 - only here
        import sys  # noqa: PLC0415 - the same

        program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(self._path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_out_of_reach_is_a_passing_failure_that_shows_no_password(kind: str) -> None:
    source = Database(make_url(f"{kind}://reader:{SECRET}@127.0.0.1:1/shop"))

    failed = refused(source, "SELECT 1 AS n")

    assert failed.passing
    assert "cannot be reached" in str(failed)
    assert SECRET not in str(failed)
    assert "cannot be reached" in str(source.probe(2))


def test_a_wrong_password_is_for_good_and_not_shown(of_mariadb: InMariaDb) -> None:
    url = make_url(of_mariadb.url).set(username="nobody", password=SECRET)

    failed = refused(Database(url), "SELECT 1 AS n")

    assert not failed.passing
    assert SECRET not in str(failed)


def test_a_message_that_holds_the_password_is_shown_without_it(of_postgres: InPostgres, cluster: Cluster) -> None:
    url = make_url(cluster.url(of_postgres._name)).set(password=SECRET)

    failed = refused(Database(url), f"SELECT * FROM stock WHERE quantity = '{SECRET}'")  # noqa: S608 - it is to fail

    assert "***" in str(failed)
    assert SECRET not in str(failed)


def test_a_server_that_goes_away_is_a_passing_failure(cluster: Cluster) -> None:
    kept = InPostgres(cluster)
    reader = kept.source.open(seconds=20, most_rows=10**9)

    def read_on() -> None:
        with reader.opened():
            _, rows = reader.read(f"SELECT a.n {PAIRS}, numbers f", {})
            next(rows)
            with cluster.admin() as wire:
                wire.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskqueue-mcp'"
                )
            list(rows)

    with pytest.raises(ReadFailed) as failed:
        read_on()
    assert failed.value.passing


def test_a_url_of_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(SettingsRefused, match="oracle"):
        Database(make_url("oracle://u@h/d"))

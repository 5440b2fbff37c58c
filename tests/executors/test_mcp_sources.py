"""A tool of an MCP server as a source: a real server, over its pipes and over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.query import Query
from taskqueue_mcp.executors.sources.mcp_tool import McpTool, over_http, over_stdio
from taskqueue_mcp.executors.sources.reading import Halted, ReadFailed
from taskqueue_mcp.model import Completed, Failed
from tests.executors.stock_server import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskqueue_mcp.executors.sources.mcp_tool import Connect
    from tests.executors.conftest import MakeRun

SERVER = Path(__file__).with_name("stock_server.py")
SELECT = "SELECT sku, quantity FROM stock WHERE quantity < 10 ORDER BY id"
ROWS = [["A-1", 3], ["C-3", -5], ["D-4", 9]]
SQL = {"sql": "{sql}"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SERVER), "http", str(port)], stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/mcp", trust_env=False)
        except httpx2.HTTPError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break
    yield f"http://127.0.0.1:{port}/mcp"
    process.kill()
    process.wait(10)


@pytest.fixture(params=["stdio", "http"])
def connect(request: pytest.FixtureRequest) -> Connect:
    if request.param == "stdio":
        return by_pipes()
    return over_http(request.getfixturevalue("url"), {"Authorization": f"Bearer {TOKEN}"})


def by_pipes() -> Connect:
    return over_stdio([sys.executable, str(SERVER), "stdio"], {"STOCK_TOKEN": TOKEN})


def read(
    connect: Connect, tool: str, sql: str = SELECT, arguments: dict[str, Any] | None = None, *, seconds: float = 30,
    most_rows: int = 100, **params: Any,
) -> tuple[list[str], list[Any]]:  # fmt: skip
    source = McpTool(connect, tool=tool, arguments=arguments or SQL, secrets=[TOKEN, f"Bearer {TOKEN}"])
    reader = source.open(seconds=seconds, most_rows=most_rows)
    with reader.opened():
        reader.check(sql, params)
        columns, rows = reader.read(sql, params)
        return columns, [list(row) for row in rows]


def refused(connect: Connect, tool: str, sql: str = SELECT, **given: Any) -> ReadFailed:
    with pytest.raises(ReadFailed) as failed:
        read(connect, tool, sql, **given)
    assert "\n" not in str(failed.value)
    assert TOKEN not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("tool", ["run_query", "query_as_text", "query_as_columns"])
def test_rows_are_found_however_the_tool_answers(connect: Connect, tool: str) -> None:
    assert read(connect, tool) == (["sku", "quantity"], ROWS)


@pytest.mark.parametrize("sql", [SELECT, f"{SELECT} LIMIT 1", f"{SELECT} LIMIT 0"])
def test_a_single_row_and_none_are_rows_too(connect: Connect, sql: str) -> None:
    _, rows = read(connect, "run_query", sql)

    assert rows == ROWS[: {"1": 1, "0": 0}.get(sql[-1], 3)]


def test_parameters_reach_a_tool_that_takes_them_apart_from_the_sql(connect: Connect) -> None:
    arguments = {"sql": "{sql}", "params": "{params}", "limit": "{max_rows}"}
    sql = "SELECT sku FROM stock WHERE sku = :sku"

    assert read(connect, "run_query", sql, arguments, sku="A-1")[1] == [["A-1"]]
    assert read(connect, "run_query", sql, arguments, sku="x' OR '1'='1")[1] == []


def test_a_tool_that_binds_nothing_gets_no_statement_with_parameters() -> None:
    failed = refused(by_pipes(), "run_query", "SELECT * FROM stock WHERE sku = :sku", sku="A-1")

    assert "binds no parameters; write the statement without :sku" in str(failed)


def test_a_tool_without_sql_takes_parameters_of_the_task(connect: Connect) -> None:
    assert read(connect, "below", "", {"quantity": "{most}"}, most=4)[1] == [["A-1"], ["C-3"]]
    assert "takes no SQL" in str(refused(connect, "below", SELECT, arguments={"quantity": "{most}"}, most=4))
    assert "needs the parameter most" in str(refused(connect, "below", "", arguments={"quantity": "{most}"}))


@pytest.mark.parametrize(
    "sql", ["DELETE FROM stock", "DROP TABLE stock", "SELECT 1; DELETE FROM stock", "-- a\nUPDATE stock SET sku = 1"]
)
def test_what_does_not_begin_to_read_or_is_two_statements_never_reaches_the_tool(sql: str) -> None:
    source = McpTool(over_stdio(["/nowhere/at/all"], {}), tool="run_query", arguments=SQL, secrets=[])
    reader = source.open(seconds=5, most_rows=5)

    with pytest.raises(ReadFailed, match=r"only reading|more than one"), reader.opened():
        reader.check(sql, {})


def test_more_rows_than_allowed_are_an_error(connect: Connect) -> None:
    assert "more than 2 rows" in str(refused(connect, "run_query", most_rows=2))


def test_what_the_tool_says_is_passed_on_without_the_secret(connect: Connect) -> None:
    failed = refused(connect, "secret")

    assert "the tool secret says:" in str(failed)
    assert "***" in str(failed)
    assert not failed.passing


def test_an_answer_without_rows_is_an_error_that_says_what_is_wanted(connect: Connect) -> None:
    assert "answered with no rows: it must give a list of objects" in str(refused(connect, "poem"))


def test_a_tool_that_is_not_there_is_an_error(connect: Connect) -> None:
    assert "nothing_like_it" in str(refused(connect, "nothing_like_it"))


def test_a_tool_that_does_not_answer_is_left_in_time(connect: Connect) -> None:
    begun = time.monotonic()
    failed = refused(connect, "hang", seconds=4)

    assert str(failed).startswith("timed out after 4 s")
    assert failed.passing
    assert time.monotonic() - begun < 15


def test_a_call_that_is_told_to_stop_ends(connect: Connect) -> None:
    reader = McpTool(connect, tool="hang", arguments=SQL, secrets=[]).open(seconds=60, most_rows=5)
    ended: list[BaseException] = []

    def go() -> None:
        try:
            with reader.opened():
                reader.read(SELECT, {})
        except (Halted, ReadFailed) as error:
            ended.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    deadline = time.monotonic() + 10
    while reader._calling is None and time.monotonic() < deadline:
        time.sleep(0.01)
    reader.halt()
    thread.join(15)

    assert not thread.is_alive()
    assert [type(error) for error in ended] == [Halted]


def test_a_server_that_cannot_be_started_is_for_good_and_one_out_of_reach_is_not(url: str) -> None:
    gone = refused(over_stdio(["/nowhere/at/all"], {}), "run_query")
    away = refused(over_http("http://127.0.0.1:1/mcp", {}), "run_query")
    shut = refused(over_http(url, {"Authorization": "Bearer another"}), "run_query")

    assert not gone.passing
    assert away.passing
    assert not shut.passing
    assert "HTTP 401" in str(shut)


def test_a_server_of_ours_gets_only_what_it_is_given_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_TOKEN", "x")

    names = {row[0] for row in read(by_pipes(), "environment")[1]}

    assert "STOCK_TOKEN" in names
    assert "TASKQUEUE_TOKEN" not in names


async def test_a_query_on_a_tool_is_written_like_any_other(make_run: MakeRun, tmp_path: Path) -> None:
    executor = Query({"stock": McpTool(by_pipes(), tool="run_query", arguments=SQL, secrets=[])})

    with anyio.fail_after(30):
        outcome = await executor.run(validate_params(executor, {"query": SELECT}), make_run())

    assert isinstance(outcome, Completed), outcome
    text = (tmp_path / "out" / str(outcome.path)).read_text(encoding="utf-8")
    assert text.splitlines() == ["sku,quantity", "A-1,3", "C-3,-5", "D-4,9"]


async def test_a_task_gives_a_tool_without_sql_what_it_takes(make_run: MakeRun) -> None:
    tool = McpTool(by_pipes(), tool="below", arguments={"quantity": "{most}"}, secrets=[])
    executor = Query({"low": tool})

    with anyio.fail_after(30):
        found = await executor.run(validate_params(executor, {"most": 4}), make_run())
        wrong = await executor.run(validate_params(executor, {"least": 4}), make_run())

    assert isinstance(found, Completed), found
    assert found.data["preview"] == [{"sku": "A-1"}, {"sku": "C-3"}]
    assert isinstance(wrong, Failed)
    assert "'least' is neither an option nor" in wrong.error

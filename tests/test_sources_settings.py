"""Sources as the settings name them: each way to write one, what is refused, and that nothing secret is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskqueue_mcp.app.executors import registry_of
from taskqueue_mcp.app.sources import sources_of
from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.executors.sources.databases import Database
from taskqueue_mcp.executors.sources.mcp_tool import McpTool
from taskqueue_mcp.executors.sources.sqlite import SqliteFile
from taskqueue_mcp.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from taskqueue_mcp.executors.sources.reading import Source

SECRET = "s3cret-word"  # noqa: S105 - nobody's


def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toml: str, **given: Any) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(toml, encoding="utf-8")
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(file))
    return load_settings(**{"database": f"sqlite:///{tmp_path / 'queue.db'}", **given})


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ('a = "/srv/shop.db"', SqliteFile),
        ('a = "sqlite:////srv/shop.db"', SqliteFile),
        ('a = { path = "/srv/shop.db" }', SqliteFile),
        ('a = "postgresql://reader@db.example.com/shop"', Database),
        ('a = "postgresql+psycopg2://reader@db.example.com/shop"', Database),
        ('a = { url = "mysql://reader@tidb.example.com:4000/shop", password = "x" }', Database),
        ('a = "mariadb+pymysql://reader@db.example.com/shop"', Database),
        ('a = "duckdb:////srv/archive.duckdb"', Database),
        ('a = { command = ["crm-mcp"], tool = "run_query", env = { TOKEN = "x" } }', McpTool),
        ('a = { server = "https://crm.example.com/mcp", tool = "list", arguments = { month = "{month}" } }', McpTool),
    ],
)
def test_each_way_to_write_a_source_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, kind: type[Source]
) -> None:
    found = sources_of(settings(monkeypatch, tmp_path, f"[worker.sources]\n{told}\n"))

    assert [type(source) for source in found.values()] == [kind]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("a = {}", "exactly one of path, url, command and server"),
        ('a = { path = "x.db", url = "mysql://h/d" }', "exactly one of path, url, command and server"),
        ('a = { command = ["x"] }', "needs the tool to call"),
        ('a = { path = "x.db", tool = "x" }', "needs the tool to call"),
        ('a = { path = "x.db", password = "x" }', "a password belongs to a url"),
        ('a = { path = "x.db", colour = "red" }', "worker.sources.a.colour"),
        ("a = 5", "worker.sources.a"),
    ],
)
def test_a_source_that_is_none_stops_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, said: str
) -> None:
    with pytest.raises(SettingsRefused, match=said):
        settings(monkeypatch, tmp_path, f"[worker.sources]\n{told}\n")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("oracle://reader@h/d", "source a: oracle:// is no source; there are sqlite, postgresql"),
        ("postgresql://reader@h:port/d", "source a: its url is none"),
    ],
)
def test_a_url_that_leads_nowhere_stops_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, said: str
) -> None:
    found = settings(monkeypatch, tmp_path, f'[worker.sources]\na = "{told}"\n')

    with pytest.raises(SettingsRefused, match=said):
        registry_of(found, ("query",))


@pytest.mark.parametrize(
    ("queue", "source"),
    [
        ("sqlite:///{folder}/queue.db", "{folder}/queue.db"),
        ("sqlite:///{folder}/queue.db", "{folder}/link.db"),
        ("sqlite:///{folder}/queue.db", "sqlite:///{folder}/sub/../queue.db"),
        ("postgresql://owner@db.example.com/queue", "postgresql://reader@db.example.com:5432/queue"),
        ("postgresql://owner@127.0.0.1/queue", "postgresql://reader:x@localhost/queue?application_name=x"),
        ("postgresql:///queue?host=/run/pg", "postgresql://reader@/queue?host=/run/pg&port=5432"),
    ],
)
def test_the_queue_itself_is_no_source_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: str, source: str
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "queue.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "queue.db")
    told = f'[worker.sources]\na = "{source.format(folder=tmp_path)}"\n'
    found = settings(monkeypatch, tmp_path, told, database=queue.format(folder=tmp_path))

    for executor in ("query", "report"):
        with pytest.raises(SettingsRefused, match="own database"):
            registry_of(found, (executor,))


def test_nothing_secret_of_a_source_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = settings(
        monkeypatch,
        tmp_path,
        f"""
[worker.sources.a]
url = "postgresql://reader:{SECRET}@db.example.com/shop?sslpassword={SECRET}"
[worker.sources.b]
url = "mysql://reader@db.example.com/shop"
password = "{SECRET}"
[worker.sources.c]
server = "https://x.example.com/mcp?key={SECRET}"
headers = {{ Authorization = "Bearer {SECRET}" }}
tool = "x"
[worker.sources.d]
command = ["crm"]
env = {{ TOKEN = "{SECRET}" }}
tool = "x"
""",
    )

    assert SECRET not in repr(found.worker.sources)
    assert [source.shown for source in found.worker.sources.values()] == [
        "postgresql://db.example.com/shop",
        "mysql://db.example.com/shop",
        "tool x of x.example.com",
        "tool x of crm",
    ]
    assert SECRET not in repr(sources_of(found))


def test_sources_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASKQUEUE_WORKER__SOURCES__SHOP", str(tmp_path / "shop.db"))
    monkeypatch.setenv("TASKQUEUE_WORKER__SOURCES__SALES", "postgresql://reader@db.example.com/sales")

    found = sources_of(settings(monkeypatch, tmp_path, ""))

    assert {name: type(source) for name, source in found.items()} == {"shop": SqliteFile, "sales": Database}

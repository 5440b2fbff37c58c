"""Settings: the environment over one file over defaults, checked as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskqueue_mcp.errors import SettingsRefused
from taskqueue_mcp.settings import load_settings, machine_zone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    for name in ("TASKQUEUE_CONFIG", "TASKQUEUE_DATABASE", "TASKQUEUE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_those_that_are_promised() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.lease_seconds) == ("127.0.0.1", 8080, 900)
    assert settings.database.startswith("sqlite:///")
    assert (settings.limits.max_attempts, settings.limits.depth, settings.limits.children) == (3, 8, 50)
    assert (settings.limits.tasks_per_root, settings.limits.open_tasks_per_queue) == (500, 10_000)
    assert settings.limits.body_bytes == 256 * 1024
    assert settings.keep_finished_days == 30


def test_a_command_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "taskqueue.toml"
    file.write_text('port = 1\nlease_seconds = 60\nzone = "Europe/Berlin"\n[limits]\ndepth = 2\n', encoding="utf-8")
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(file))
    monkeypatch.setenv("TASKQUEUE_PORT", "2")
    monkeypatch.setenv("TASKQUEUE_LEASE_SECONDS", "70")
    settings = load_settings(port=3)
    assert (settings.port, settings.lease_seconds, settings.zone, settings.limits.depth) == (3, 70, "Europe/Berlin", 2)


def test_nested_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_LIMITS__CHILDREN", "7")
    monkeypatch.setenv("TASKQUEUE_WORKER__SOURCES", '{"shop": "/data/shop.db"}')
    settings = load_settings()
    assert settings.limits.children == 7
    assert str(settings.worker.sources["shop"].path) == "/data/shop.db"


@pytest.mark.parametrize("given", ["git, make", '["git", "make"]'])
def test_a_list_is_words_with_commas_or_json(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("TASKQUEUE_ALLOWED_HOSTS", given)
    monkeypatch.setenv("TASKQUEUE_WORKER__SHELL_ALLOW", given)
    settings = load_settings()
    assert settings.allowed_hosts == settings.worker.shell_allow == ["git", "make"]


def test_what_has_to_be_json_and_is_not_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_WORKER__SOURCES", "{shop")
    with pytest.raises(SettingsRefused) as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_all_faults_are_told_at_once_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "taskqueue.toml"
    file.write_text('colour = "red"\n', encoding="utf-8")
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(file))
    monkeypatch.setenv("TASKQUEUE_PORT", "many")
    monkeypatch.setenv("TASKQUEUE_ZONE", "Mars/Base")
    with pytest.raises(SettingsRefused) as refused:
        load_settings()
    line = str(refused.value)
    assert "\n" not in line
    assert all(word in line for word in ("colour", "port", "Mars/Base"))


def test_a_named_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQUEUE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsRefused, match="no such file"):
        load_settings()
    (tmp_path / "none.toml").write_text("= broken", encoding="utf-8")
    with pytest.raises(SettingsRefused, match="not TOML"):
        load_settings()


def test_the_machines_zone_is_its_own_or_utc_but_never_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Lisbon")
    assert machine_zone() == "Europe/Lisbon"
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert machine_zone() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "Nowhere/Land")
    assert machine_zone() == "UTC"

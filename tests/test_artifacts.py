"""Files over HTTP: a real server, real clients, and a real worker that shares nothing with it but a network."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.serving import Served, call, over_http, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60
LARGEST = 3 * 1024 * 1024
BYTES = b"sku,stock\nA,1\n"
OWNER = "the-owner-of-all-of-this"


needs_root = pytest.mark.skipif(
    not os.environ.get("TASKQUEUE_CI") and (sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None),
    reason="a disk or a network of its own takes root and iproute2; CI has both, and there it is not skipped",
)


class House:
    """A server with its folder, and the tokens that open it."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.folder = folder
        self.output = folder / "kept"
        self.served = served
        self.base = served.url.removesuffix("/mcp")

    def token(self, name: str, scope: str, kind: str = "agent") -> str:
        command = ["tokens", "create", "--name", name, "--scope", scope, "--kind", kind]
        made = subprocess.run(
            [sys.executable, "-m", "taskqueue_mcp", *command, "--database", f"sqlite:///{self.folder / 'queue.db'}"],
            capture_output=True, text=True, check=True, timeout=SECONDS,
        )  # fmt: skip
        return made.stdout.strip()

    def lying(self) -> dict[str, int]:
        found = self.output.rglob("*") if self.output.is_dir() else []
        return {path.relative_to(self.output).as_posix(): path.stat().st_size for path in found if path.is_file()}

    async def claimed(self, token: str, **asked: Any) -> dict[str, Any]:
        async with over_http(self.served.url, OWNER) as owner:
            made = await call(owner, "create_task", title="Count", task_type="counting", **asked)
        async with over_http(self.served.url, token) as agent:
            return await call(agent, "claim_task", task_id=made["task"]["id"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    settings = {
        "TASKQUEUE_TOKEN": OWNER, "TASKQUEUE_OUTPUT": str(folder / "kept"), "TASKQUEUE_LARGEST_UPLOAD": str(LARGEST),
    }  # fmt: skip
    with serving(folder, f"sqlite:///{folder / 'queue.db'}", **settings) as served:
        yield House(folder, served)


@pytest.fixture(scope="module")
def working(house: House) -> str:
    return house.token("stockroom", "work")


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def put(house: House, token: str, lease: str | None, path: str, data: Any = BYTES, **headers: str) -> httpx2.Response:
    given = {"Authorization": f"Bearer {token}", **({"Taskqueue-Lease": lease} if lease else {}), **headers}
    return httpx2.put(f"{house.base}/artifacts", params={"path": path}, content=data, headers=given, timeout=SECONDS)


def get(house: House, token: str, task: str, path: str | None = None) -> httpx2.Response:
    given = {"Authorization": f"Bearer {token}"}
    params = {} if path is None else {"path": path}
    return httpx2.get(f"{house.base}/artifacts/{task}", params=params, headers=given, timeout=SECONDS)


async def test_a_file_goes_up_under_its_lease_and_comes_down_as_it_was(house: House, working: str) -> None:
    claim = await house.claimed(working, options={"outputs": [{"path": "up/*.csv", "min_rows": 1}]})
    answer = put(house, working, claim["lease"], "up/käse.csv", **{"Content-Digest": digest(BYTES)})
    assert (answer.status_code, answer.json()["artifact"]["sha256"]) == (201, hashlib.sha256(BYTES).hexdigest())
    assert put(house, working, claim["lease"], "up/käse.csv").status_code == 200
    async with over_http(house.served.url, working) as agent:
        done = await call(agent, "complete_task", lease=claim["lease"], result_path="up/käse.csv")
    assert (done["verdict"]["status"], done["verdict"]["checked_by"]) == ("verified", ["server"])
    down = get(house, working, claim["task"]["id"], "up/käse.csv")
    assert (down.status_code, down.content, down.headers["content-digest"]) == (200, BYTES, digest(BYTES))
    assert down.headers["content-disposition"].startswith("attachment;")
    assert down.headers["content-security-policy"] == "sandbox"
    listed = get(house, working, claim["task"]["id"]).json()["artifacts"]
    assert [each["path"] for each in listed] == ["up/käse.csv"]


async def test_the_command_line_fetches_a_file_from_the_server(house: House, working: str, tmp_path: Path) -> None:
    claim = await house.claimed(working)
    assert put(house, working, claim["lease"], "fetched/a.csv").status_code == 201
    command = [
        "reports",
        "download",
        claim["task"]["id"],
        "--artifact",
        "1",
        "--server",
        house.base,
        "--token",
        working,
    ]
    fetched = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "taskqueue_mcp", *command], cwd=tmp_path, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "a.csv").read_bytes() == BYTES


async def test_a_lease_is_wanted_and_must_be_ones_own(house: House, working: str) -> None:
    claim = await house.claimed(working)
    other = house.token(f"other-{claim['task']['id']}", "work")
    asking = house.token(f"asking-{claim['task']['id']}", "enqueue")
    tried = [
        (working, None, 400, "invalid_input"),
        (working, "T-1.1.nonsense", 400, "invalid_input"),
        (other, claim["lease"], 409, "lease_lost"),
        (asking, claim["lease"], 403, "forbidden"),
        ("tq_nobody", claim["lease"], 401, "unauthorized"),
    ]
    for token, lease, status, error in tried:
        answer = put(house, token, lease, "lease/a.csv")
        assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert not any(path.startswith("lease/") for path in house.lying())


@pytest.mark.parametrize(
    "path", ["../a.csv", "/etc/a.csv", "a/../../b.csv", "a\\b.csv", ".ssh/a.csv", "a.sh", "\0.csv"]
)
async def test_a_path_that_leads_out_is_refused(house: House, working: str, path: str) -> None:
    claim = await house.claimed(working)
    before = house.lying()
    assert put(house, working, claim["lease"], path).status_code == 400
    assert house.lying() == before


async def test_a_path_in_the_address_names_no_other_route(house: House, working: str) -> None:
    """The name of a file stands in the query: what clients and proxies do to a path does nothing to it."""
    claim = await house.claimed(working)
    for target in (
        "/artifacts/../../etc/passwd",
        "/artifacts/%2e%2e/%2e%2e/etc/passwd",
        f"/artifacts/{claim['task']['id']}/x",
    ):
        host = urlsplit(house.base)
        connection = http.client.HTTPConnection(host.hostname or "", host.port or 0, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", target, headers={"Authorization": f"Bearer {working}"})
            assert connection.getresponse().status in {400, 404}


async def test_a_file_that_is_too_large_is_refused_before_it_is_sent(house: House, working: str) -> None:
    claim = await house.claimed(working)
    answer = put(house, working, claim["lease"], "large.csv", b"x" * (LARGEST + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, "limit_reached")
    length = put(house, working, claim["lease"], "large.csv", itertools.repeat(b"x", 10))
    assert length.status_code == 411
    assert "large.csv" not in house.lying()


async def test_a_file_that_was_broken_on_the_way_is_refused(house: House, working: str) -> None:
    claim = await house.claimed(working)
    answer = put(house, working, claim["lease"], "broken.csv", **{"Content-Digest": digest(b"something else")})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_input")
    assert "broken.csv" not in house.lying()


async def test_a_client_that_is_gone_in_the_middle_leaves_nothing(house: House, working: str) -> None:
    claim = await house.claimed(working)
    before = house.lying()
    host = urlsplit(house.base)
    with socket.create_connection((host.hostname, host.port or 0), SECONDS) as wire:
        head = (
            f"PUT /artifacts?path=gone.csv HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {working}\r\n"
            f"Taskqueue-Lease: {claim['lease']}\r\nContent-Length: 1000000\r\n\r\n"
        )
        wire.sendall(head.encode() + b"x" * 500_000)
        until(lambda: any(path.endswith(".part") for path in house.lying()))
    until(lambda: house.lying() == before)
    assert put(house, working, claim["lease"], "gone.csv").status_code == 201


async def test_an_upload_does_not_hold_up_the_server(house: House, working: str) -> None:
    claim = await house.claimed(working)
    host = urlsplit(house.base)
    with socket.create_connection((host.hostname, host.port or 0), SECONDS) as wire:
        head = (
            f"PUT /artifacts?path=slow.csv HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {working}\r\n"
            f"Taskqueue-Lease: {claim['lease']}\r\nContent-Length: 1000\r\n\r\n"
        )
        wire.sendall(head.encode() + b"x")
        until(lambda: any(path.endswith(".part") for path in house.lying()))
        begun = time.monotonic()
        assert httpx2.get(f"{house.base}/readyz", timeout=SECONDS).status_code == 200
        assert time.monotonic() - begun < 5


@needs_root
async def test_a_full_disk_is_said_and_nothing_of_the_file_stays(tmp_path: Path) -> None:
    disk = tmp_path / "kept"
    disk.mkdir()
    system(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)])
    try:
        settings = {"TASKQUEUE_TOKEN": OWNER, "TASKQUEUE_OUTPUT": str(disk)}
        with serving(tmp_path, f"sqlite:///{tmp_path / 'queue.db'}", **settings) as served:
            house = House(tmp_path, served)
            token = house.token("stockroom", "work")
            claim = await house.claimed(token)
            (disk / "ballast").write_bytes(b"x" * 600_000)
            answer = put(house, token, claim["lease"], "full.csv", b"x" * 700_000)
            assert (answer.status_code, answer.json()["error"]) == (507, "storage_full")
            assert house.lying() == {"ballast": 600_000}
            (disk / "ballast").unlink()
            assert put(house, token, claim["lease"], "full.csv", b"x" * 700_000).status_code == 201
    finally:
        system(["umount", str(disk)])


class Elsewhere:
    """Another machine, as far as the network and its files go: a network namespace, joined to ours by one wire."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.here, self.there = "10.213.71.1", "10.213.71.2"

    def __enter__(self) -> Elsewhere:
        name = self._name
        self._ip("netns", "add", name)
        self._ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        self._ip("addr", "add", f"{self.here}/30", "dev", f"{name}a")
        self._ip("link", "set", f"{name}a", "up")
        self._ip("-n", name, "addr", "add", f"{self.there}/30", "dev", f"{name}b")
        self._ip("-n", name, "link", "set", f"{name}b", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._ip("netns", "del", self._name)

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self._name, *words]

    def _ip(self, *words: str) -> None:
        system(["ip", *words])


@needs_root
async def test_a_worker_on_another_machine_uploads_its_report_and_the_server_verifies_it(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    stock = there / "stock.db"
    with contextlib.closing(sqlite3.connect(stock)) as database:
        database.execute("CREATE TABLE products (sku TEXT, stock INTEGER)")
        database.execute("INSERT INTO products VALUES ('A', 1), ('B', 2)")
        database.commit()
    sops = tmp_path / "sops"
    sops.mkdir()
    (sops / "stock.md").write_text(SOP)
    with Elsewhere(f"tq{os.getpid() % 100_000}") as machine:
        settings = {
            "TASKQUEUE_TOKEN": OWNER, "TASKQUEUE_OUTPUT": str(tmp_path / "kept"), "TASKQUEUE_SOPS": str(sops),
            "TASKQUEUE_ALLOWED_HOSTS": machine.here,
        }  # fmt: skip
        options = ("--host", machine.here)
        with serving(tmp_path, f"sqlite:///{tmp_path / 'queue.db'}", *options, **settings) as served:
            house = House(tmp_path, served)
            token = house.token("stockroom", "work")
            async with over_http(served.url, OWNER) as owner:
                made = await call(owner, "create_task", title="Stock", sop="stock.md", task_type="report")
                command = machine.command(
                    sys.executable, "-m", "taskqueue_mcp", "worker", "--server", house.base, "--once",
                    "--executor", "report", "--source", f"stock={stock}", "--output", str(there / "made"),
                )  # fmt: skip
                worked = await asyncio.to_thread(
                    subprocess.run, command, env={**os.environ, "TASKQUEUE_TOKEN": token}, cwd=there,
                    capture_output=True, text=True, timeout=SECONDS, check=False,
                )  # fmt: skip
                assert worked.returncode == 0, worked.stderr
                task = (await call(owner, "get_task", task_id=made["task"]["id"]))["task"]
    assert (task["status"], task["verdict"]) == ("completed", "verified"), (task, worked.stderr)
    verdict = task["attempts"][0]["verdict"]
    assert verdict["checked_by"] == ["worker", "server"]
    (file,) = verdict["files"]
    made_there = there / "made" / file["path"]
    assert (tmp_path / "kept" / file["stored"]).read_bytes() == made_there.read_bytes()
    assert json.loads(made_there.read_text()) == [{"sku": "A", "stock": 1}, {"sku": "B", "stock": 2}]


SOP = """---
title: Stock
task_type: report
executor: report
output: {format: json, path: Stock, filename_pattern: "Stock_{date}.json"}
outputs:
  - path: Stock/Stock_{date}.json
    min_rows: 2
    columns: [sku, stock]
    sql: SELECT sum(stock) = 3 FROM rows
---
```sql
SELECT sku, stock FROM products ORDER BY sku
```
"""


def system(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=SECONDS, capture_output=True)


def until(holds: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)

"""The MCP task servers that can be had from npm, spoken to over stdio, on a backlog that is written beforehand."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from benchmarks.peers.environment import node_modules, program

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCTIONS = "Read the stock of every product."


class Spoken:
    """A server at the other end of two pipes that may also log, notify and ask while it answers."""

    def __init__(self, command: list[str], where: Path) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=where,
            env={**os.environ, "PWD": str(where)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._ids = 0
        client = {"name": "bench", "version": "1"}
        self._ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._send({"method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> str:
        result = self._ask("tools/call", {"name": tool, "arguments": arguments})
        assert not result.get("isError"), result
        text: str = result["content"][0]["text"]
        return text

    def close(self) -> None:
        self._to.close()
        self._process.terminate()
        self._process.wait(20)
        self._from.close()

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._ids += 1
        self._send({"id": self._ids, "method": method, "params": params})
        for line in self._from:
            try:
                message = json.loads(line)
            except ValueError:  # one of them logs to standard output
                continue
            if "method" not in message and message.get("id") == self._ids:
                return message["result"]
        raise RuntimeError(f"the server ended with {self._process.wait()}")

    def _send(self, message: dict[str, Any]) -> None:
        self._to.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._to.flush()


class TaskMaster:
    """task-master-ai: all tasks in one JSON file. It has no claim: the next task is asked for, then its status set."""

    name = "task-master-ai"

    def __init__(self, where: Path, tasks: int) -> None:
        self._root = str(where)
        kept = where / ".taskmaster" / "tasks"
        kept.mkdir(parents=True)
        plain = {"description": INSTRUCTIONS, "details": "", "testStrategy": "", "status": "pending",
                 "dependencies": [], "priority": "medium", "subtasks": []}  # fmt: skip
        at = "2026-01-01T00:00:00.000Z"
        metadata = {"created": at, "updated": at, "description": "bench"}
        rows = [{"id": number, "title": f"Task {number}", **plain} for number in range(1, tasks + 1)]
        whole = {"master": {"tasks": rows, "metadata": metadata}}
        (kept / "tasks.json").write_text(json.dumps(whole, indent=2), encoding="utf-8")
        program_ = node_modules() / "task-master-ai" / "dist" / "mcp-server.js"
        self._server = Spoken([program("node", "nodejs 20 or newer"), str(program_)], where)

    def claim(self) -> float:
        """Take a task and finish it; return the seconds that the taking took."""
        begin = time.perf_counter()
        found = json.loads(self._server.call("next_task", projectRoot=self._root))["data"]["nextTask"]
        assert found["status"] == "pending", found
        number = str(found["id"])
        self._server.call("set_task_status", projectRoot=self._root, id=number, status="in-progress")
        took = time.perf_counter() - begin
        self._server.call("set_task_status", projectRoot=self._root, id=number, status="done")
        return took

    def close(self) -> None:
        self._server.close()


class BacklogMd:
    """Backlog.md: a Markdown file a task. It has no claim: a task that is known already is edited."""

    name = "backlog.md"

    def __init__(self, where: Path, tasks: int) -> None:
        kept = where / "backlog" / "tasks"
        kept.mkdir(parents=True)
        settings = {"project_name": "bench", "default_status": "To Do", "statuses": ["To Do", "In Progress", "Done"],
                    "labels": [], "date_format": "yyyy-mm-dd", "remote_operations": False, "auto_commit": False,
                    "check_active_branches": False, "task_prefix": "task"}  # fmt: skip
        lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
        (where / "backlog" / "config.yml").write_text(lines, encoding="utf-8")
        for number in range(1, tasks + 1):
            (kept / f"task-{number} - Task-{number}.md").write_text(
                f"---\nid: TASK-{number}\ntitle: Task {number}\nstatus: To Do\nassignee: []\n"
                f"created_date: '2026-01-01 00:00'\nlabels: []\ndependencies: []\nordinal: {number}000\n---\n\n"
                f"## Description\n\n{INSTRUCTIONS}\n",
                encoding="utf-8",
            )
        binary = node_modules() / ".bin" / "backlog"
        self._server = Spoken([str(binary), "mcp", "start", "--cwd", str(where)], where)
        self._next = 0

    def claim(self) -> float:
        """Take a task; return the seconds that it took."""
        self._next += 1
        begin = time.perf_counter()
        said = self._server.call("task_edit", id=f"task-{self._next}", status="In Progress", assignee=["@bench"])
        took = time.perf_counter() - begin
        assert "In Progress" in said, said
        return took

    def close(self) -> None:
        self._server.close()

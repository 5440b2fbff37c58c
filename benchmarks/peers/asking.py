"""Lines of JSON over two pipes: how a subject asks a peer's process, and how that process answers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TextIO

ROOT = Path(__file__).resolve().parents[2]


class Asked:
    """A process that runs a module of this package, in whichever environment it needs, and answers."""

    def __init__(self, interpreter: str, module: str, *arguments: str, **environment: str) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [interpreter, "-m", f"benchmarks.peers.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have it do something; return what came of it."""
        self._to.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._to.flush()
        line = self._from.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._to.close()
        self._process.wait(60)
        self._from.close()


def answer(doing: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until nobody asks any more; what is printed meanwhile goes to standard error."""
    answers = _answers()
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(doing[asked.pop("do")](**asked)) + "\n")
        answers.flush()


async def answer_meanwhile(doing: Mapping[str, Callable[..., Awaitable[Any]]]) -> None:
    """Answer likewise, while the rest of the loop goes on."""
    answers = _answers()
    asking = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asking), sys.stdin)
    async for line in asking:
        asked = json.loads(line)
        answers.write(json.dumps(await doing[asked.pop("do")](**asked)) + "\n")
        answers.flush()


def _answers() -> TextIO:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers

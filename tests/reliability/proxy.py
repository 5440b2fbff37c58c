"""A wire that fails: between a client and its server, request and answer are dropped, halved, late or left hanging."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

CHUNK = 65_536
HALF_OPEN_SECONDS = 5.0
"""How long a connection on which nothing moves any more is left standing."""


class Fault(StrEnum):
    """What befalls one exchange on a connection, and ends that connection."""

    BEFORE_REQUEST = "the request never arrives"
    AFTER_REQUEST = "the connection ends when the request has arrived"
    UNHEARD_ANSWER = "the server answers and nobody hears it"
    HALF_ANSWER = "the connection ends in the middle of the answer"
    LATE_ANSWER = "the answer comes when the client has given up"
    LATE_REQUEST = "the request arrives when the client has given up"
    HALF_OPEN = "nothing moves any more, and no side is told"


class Proxy:
    """Passes connections on to a port of this machine; a share of the exchanges meets a fault."""

    def __init__(self, target: int, chance: random.Random, share: float, late: float) -> None:
        self._target = target
        self._chance = chance
        self._late = late
        self._share = share
        self._deck: list[Fault] = []
        self.met: Counter[Fault | None] = Counter()
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        """Accept connections; those that are open at the end are cut."""
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in connections:
                connection.cancel()
            ended = await asyncio.gather(*connections, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, ahead = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        try:
            with contextlib.suppress(OSError):
                await self._relay(reader, writer, behind, ahead)
        finally:
            for each in (writer, ahead):
                each.transport.abort()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        ahead: asyncio.StreamWriter,
    ) -> None:
        """Pass on what either side says; what the client says begins an exchange."""
        asked = asyncio.ensure_future(_request(reader))
        answered = asyncio.ensure_future(behind.read(CHUNK))
        try:
            while True:
                await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    request = asked.result()
                    if not request:
                        return
                    fault = self._draw()
                    self.met[fault] += 1
                    if fault is not None:
                        await self._fail(fault, request, writer, ahead, answered)
                        return
                    ahead.write(request)
                    asked = asyncio.ensure_future(_request(reader))
                if answered.done():
                    if not answered.result():
                        return
                    writer.write(answered.result())
                    answered = asyncio.ensure_future(behind.read(CHUNK))
        finally:
            for each in (asked, answered):
                each.cancel()
                await asyncio.wait({each})
                if not each.cancelled():
                    each.exception()  # so that it counts as seen

    def _draw(self) -> Fault | None:
        """Return the next fault, or None; each kind comes as often as the others."""
        if self._chance.random() >= self._share:
            return None
        if not self._deck:
            self._deck = self._chance.sample(list(Fault), len(Fault))
        return self._deck.pop()

    async def _fail(
        self,
        fault: Fault,
        request: bytes,
        writer: asyncio.StreamWriter,
        ahead: asyncio.StreamWriter,
        answered: asyncio.Future[bytes],
    ) -> None:
        """Let the exchange that `request` begins meet its fault; the connection is cut afterwards."""
        match fault:
            case Fault.BEFORE_REQUEST:
                return
            case Fault.AFTER_REQUEST:
                ahead.write(request)
                await ahead.drain()
            case Fault.UNHEARD_ANSWER:
                ahead.write(request)
                writer.transport.abort()
                await asyncio.wait({answered}, timeout=self._late)
            case Fault.HALF_ANSWER:
                ahead.write(request)
                answer = await asyncio.wait_for(answered, HALF_OPEN_SECONDS)
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
            case Fault.LATE_ANSWER:
                ahead.write(request)
                answer = await asyncio.wait_for(answered, HALF_OPEN_SECONDS)
                await asyncio.sleep(self._late)
                writer.write(answer)
                await writer.drain()
            case Fault.LATE_REQUEST:
                await asyncio.sleep(self._late)
                ahead.write(request)
                await asyncio.wait({answered}, timeout=self._late)
            case Fault.HALF_OPEN:
                ahead.write(request)
                await asyncio.sleep(HALF_OPEN_SECONDS)


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return the next HTTP request whole, and nothing when there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await reader.readexactly(int(length[1])) if length else b"")
    except asyncio.IncompleteReadError:
        return b""


class Wire:
    """Passes bytes between clients and a server of any kind, until it is cut or falls silent."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._is_cut = False
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Wire]:
        """Accept connections; those that are open at the end are cut."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()

    async def cut(self) -> None:
        """End every connection at once, and let none be made."""
        self._is_cut = True
        for connection in self._open:
            connection.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def silence(self) -> None:
        """Hold every byte back; no side is told."""
        self._passes.clear()

    def heal(self) -> None:
        """Pass on what was held back, and let connections be made."""
        self._is_cut = False
        self._passes.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if not self._is_cut:
                with contextlib.suppress(OSError):
                    behind, ahead = await asyncio.open_connection("127.0.0.1", self._target)
                    ends.append(ahead)
                    ways = {asyncio.ensure_future(self._pass(*way)) for way in ((reader, ahead), (behind, writer))}
                    try:
                        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for way in ways:
                            way.cancel()
                        await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()

"""A tool that does nothing, over stdio: our transport against the SDK's (benchmarks/stdio_noop.py)."""

from __future__ import annotations

import statistics

from benchmarks.measuring import Figure, at_least, ratio
from benchmarks.stdio_noop import IN_FLIGHT, Server

TARGETS = {1: 2.0, 32: 2.5}


def run(*, quick: bool) -> list[Figure]:
    """Interleaved, in the era that clients use today."""
    rounds, seconds = (3, 0.5) if quick else (7, 1.0)
    servers = {kind: Server(kind, "handshake") for kind in ("stock", "ours")}
    rates: dict[tuple[str, int], list[float]] = {(kind, n): [] for kind in servers for n in IN_FLIGHT}
    for server in servers.values():
        server.rate(8, 0.3)
    for _ in range(rounds):
        for in_flight in IN_FLIGHT:
            for kind, server in servers.items():
                rates[kind, in_flight].append(server.rate(in_flight, seconds))
    for server in servers.values():
        server.close()
    figures = []
    for in_flight in IN_FLIGHT:
        mine, theirs = rates["ours", in_flight], rates["stock", in_flight]
        detail = f"{statistics.median(mine):,.0f} to {statistics.median(theirs):,.0f} calls/s"
        figures.append(at_least(f"{in_flight} in flight", ratio(mine, theirs), TARGETS[in_flight], detail))
    return figures

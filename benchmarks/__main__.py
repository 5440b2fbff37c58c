"""Measures what is asked for: `python -m benchmarks [--quick] [--save] [names…]`."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time

from benchmarks import recording
from benchmarks.measuring import show

SUBJECTS = (
    "service",
    "claim_depth",
    "processes",
    "mcp_calls",
    "stdio",
    "wakeup",
    "start",
    "queries",
    "backlog",
    "millions",
    "millions_postgres",
    "worker",
)
PEERS = ("peers_sqlite", "peers_postgres", "peers_wakeup", "peers_mcp")
"""Measured when they are named, each or as `peers`: they install what they compare with."""
KNOWN = (*SUBJECTS, *PEERS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(KNOWN)}; `peers` for all that begin so")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a look, not for the record")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    args = parser.parse_args()
    if args.quick and args.save:
        parser.error("--quick is for a look: it is not kept")
    names = [each for name in args.names or SUBJECTS for each in (PEERS if name == "peers" else (name,))]
    unknown = sorted(set(names) - set(KNOWN))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(KNOWN)} and peers")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and folders go with it
    missed = 0
    for name in names:
        subject = importlib.import_module(f"benchmarks.{name}")
        begun, (load, _, _) = time.time(), os.getloadavg()
        figures = subject.run(quick=args.quick)
        title = (subject.__doc__ or "").splitlines()[0]
        show(f"{name}: {title}", figures)
        if args.save:
            recording.save(recording.RESULTS, name, title, figures, begun, load)
        missed += sum(each.met is False for each in figures)
    print(f"\n{missed} missed" if missed else "\nall met")
    return 0


if __name__ == "__main__":
    sys.exit(main())

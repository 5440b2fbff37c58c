"""Measures what is asked for: `python -m benchmarks [--quick] [names…]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.measuring import show

SUBJECTS = ("service", "claim_depth", "processes", "mcp_calls", "stdio", "wakeup", "start", "backlog")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a look, not for the record")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(SUBJECTS))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(SUBJECTS)}")
    missed = 0
    for name in args.names or SUBJECTS:
        subject = importlib.import_module(f"benchmarks.{name}")
        figures = subject.run(quick=args.quick)
        show(f"{name}: {(subject.__doc__ or '').splitlines()[0]}", figures)
        missed += sum(each.met is False for each in figures)
    print(f"\n{missed} missed" if missed else "\nall met")
    return 0


if __name__ == "__main__":
    sys.exit(main())

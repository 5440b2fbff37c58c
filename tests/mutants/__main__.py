"""`python -m tests.mutants`: break the product in every seeded way and see that a test notices each time."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.mutants import breakages, verdicts
from tests.mutants.runner import RedAlready, Runner, Trial, sample, trials
from tests.mutants.verdicts import Fate, Verdict

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run what the command line names; 0 when every mutant was killed, 1 when not, 2 when nothing can be said."""
    arguments = _arguments()
    try:
        chosen = _chosen(arguments)
        if arguments.list:
            _list(chosen)
            return 0
        _say(f"{len(chosen)} mutants, --seed {arguments.seed}")
        began = time.monotonic()
        runner = Runner(ROOT, seed=arguments.seed, jobs=arguments.jobs)
        found = runner.run(chosen, lambda verdict: _say(str(verdict)))
    except (RedAlready, LookupError) as fault:
        _say(str(fault.args[0]))
        return 2
    return _sum_up(found, time.monotonic() - began)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--list", action="store_true", help="say which there are and what they break")
    parser.add_argument("--engine", help="only on this engine")
    parser.add_argument("--jobs", type=int, help="how many at once; default one a core")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them, by the seed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Trial]:
    named = [breakages.by_name(name) for name in arguments.names] or list(breakages.ALL)
    chosen = trials(named, arguments.engine)
    return chosen if arguments.sample is None else sample(chosen, arguments.seed, arguments.sample)


def _list(chosen: list[Trial]) -> None:
    for trial in chosen:
        _say(f"{trial.name:44}  {trial.mutant.breaks}")
    _say(f"{len(chosen)} mutants")


def _sum_up(found: list[Verdict], seconds: float) -> int:
    counts = {fate: [verdict.name for verdict in found if verdict.fate is fate] for fate in Fate}
    _say(", ".join(f"{fate.value}: {len(names)}" for fate, names in counts.items()) + f" ({seconds:.0f} s)")
    return 0 if verdicts.all_killed(found) else 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

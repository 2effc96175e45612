"""Run the simulated cluster: `uv run python -m tests.model --seeds 200 --seconds 300`. Exits with 1 if it found
anything.

--profiles        the worlds of profiles.py too
--profile NAME    that one alone
--seed N --verbose
--beside REV      the same worlds with the code of that revision, side by side
"""

import argparse
import os
import pickle
import sys
from pathlib import Path

from tests.model.beside import beside
from tests.model.drawn import drawn
from tests.model.figures import ORACLES, Figures, table
from tests.model.profiles import PROFILES
from tests.model.runs import each
from tests.model.script import Script

SHOWN = 3  # of each oracle, unless --verbose


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--seed", type=int, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--profiles", action="store_true")
    parser.add_argument("--profile", action="append", default=[], choices=sorted(PROFILES))
    parser.add_argument("--beside", metavar="REV")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)  # where to leave them, for --beside
    return parser.parse_args(arguments)


def scripts(given: argparse.Namespace) -> list[Script]:
    names = list(PROFILES) if given.profiles else given.profile
    seeds = [*given.seed, *range(given.first, given.first + given.seeds)]
    if not names and not seeds:
        seeds = list(range(20))
    return [PROFILES[name] for name in names] + [drawn(seed, given.seconds) for seed in seeds]


def everything(worlds: list[Script], jobs: int, *, verbose: bool) -> Figures:
    total, spent = Figures(), 0.0
    for world, figures, seconds in each(worlds, jobs):
        total.add(figures)
        spent += seconds
        if verbose:
            print(f"{world.name}: {figures.requests} requests in {seconds:.2f} s, {dict(figures.counts)}", flush=True)
    print(f"{len(worlds)} worlds, {total.requests} requests, {total.requests / max(spent, 1e-9):.0f} a second")
    return total


def tell(total: Figures, *, verbose: bool) -> None:
    """One line for each oracle that fires, and its first cases."""
    for oracle in ORACLES:
        if not (number := total.counts[oracle]):
            continue
        print(f"{oracle}: {number} times, in {len(set(total.runs))} runs at most")
        cases = [w for w in total.wrongs if w.oracle == oracle]
        for wrong in cases if verbose else cases[:SHOWN]:
            print(f"    {wrong.line()}")


def main(arguments: list[str]) -> int:
    given = parsed(arguments)
    total = everything(scripts(given), given.jobs, verbose=given.verbose)
    if given.figures is not None:
        given.figures.write_bytes(pickle.dumps(total))
        return 0
    columns = {"here": total}
    if given.beside:
        columns[given.beside] = beside(given.beside, arguments)
    print(table(columns))
    tell(total, verbose=given.verbose)
    return 1 if sum(total.counts.values()) else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main(sys.argv[1:]))

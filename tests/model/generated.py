"""Break the code in every small way there is, and see whether a test notices: `uv run python -m
tests.model.generated --sample 400 --jobs 2`. Exits with 1 if less than 90 in 100 are noticed, with 2 if a test
fails without any change.

--files A B       only these
--sample N        so many of all; --seed S others
--only ID         that one, with what pytest says; may be given more than once
--list            only say which there are
--all-worlds      with the slow ones of the simulation too: for those that have survived
--without TEST    without that file or test; may be given more than once

survivors.txt names mutants that are the same program for all who can tell, each with its reason.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.forked import ROOT, Result, Task, copied, preload, results
from tests.model.mutate import Mutant, mutants_of

FILES = (
    *(f"actors/breaker/{name}.py" for name in ("circuit", "registry", "plan")),
    *(
        f"deployments/failover/{name}.py"
        for name in (
            *("failover", "run", "candidates", "tried", "no_answer", "calls", "attempts/one_target"),
            *("attempts/comparison", "attempts/time_share", "attempt"),
        )
    ),
    *(
        f"deployments/breaker_client/{name}.py"
        for name in (
            *("client", "actor_connection", "report_queue", "waiting"),
            *("permits", "local_breaker", "response_times", "flowing"),
        )
    ),
)
LEVELS = ("tests/unit", "tests/property", "tests/io")
SHORT, WORLDS = "tests/model/short.py", "tests/model/test_simulation.py"
QUICK = (
    "all-throttle",
    "five-tiers",
    "hang-with-deadlines",
    "isolated-actor-away",
    "long-stalls",
    "second-tier-by-hand",
    "short-stalls",
    "slow-actor",
    "stalls-around-permits",
    "time-left-over",
    "trial-unused",
)  # worlds of a second or two
LEAST = 0.9  # of the mutants that must die
PATIENCE, FLOOR = 5.0, 20.0  # as many times longer than its tests take may a mutant run, and so many seconds more
EXCUSES = Path(__file__).with_name("survivors.txt")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model.generated", description=(__doc__ or "")[:80])
    parser.add_argument("--files", nargs="+", default=list(FILES))
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="ID")
    parser.add_argument("--all-worlds", action="store_true")
    parser.add_argument("--without", action="append", default=[], metavar="TEST")
    return parser.parse_args(arguments)


Excuse = tuple[str, str, str]  # the file and the function in it, its lines before and after


def excuses(text: str) -> dict[Excuse, str]:
    """Blocks of four or more lines: the file and the function, `- before`, `+ after`, and the reason."""
    found = {}
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            where, before, after, *reason = lines
            found[where, before.removeprefix("- "), after.removeprefix("+ ")] = " ".join(reason)
    return found


def excuse_of(mutant: Mutant) -> Excuse:
    return f"{mutant.file} {mutant.place.function}".strip(), mutant.before, mutant.after


@dataclass
class Ground:
    """What is known of the tests when nothing is changed."""

    folder: Path
    all_worlds: bool
    tests: dict[str, float] = field(default_factory=dict)  # and how many seconds each takes
    lines: dict[str, set[tuple[str, int]]] = field(default_factory=dict)

    def task(self, mutant: Mutant) -> Task:
        """The tests that run what is changed, the quickest first; the machine and the worlds, whatever they run."""
        tests = {t: s for t, s in self.tests.items() if self._may_notice(t, mutant)}
        files = tuple(sorted({test.partition("::")[0] for test in tests}))
        seconds = FLOOR + PATIENCE * sum(tests.values())
        module = mutant.file.removesuffix(".py").replace("/", ".")
        return Task(mutant.id, files, seconds, tests, module, mutant.source)

    def _may_notice(self, test: str, mutant: Mutant) -> bool:
        file = test.partition("::")[0]
        if file == SHORT:
            return mutant.file.startswith("actors/")
        if file == WORLDS:
            return self.all_worlds or test.endswith(tuple(f"[{name}]" for name in QUICK))
        first, last = mutant.place.lines
        if not mutant.place.function:
            return any(f == mutant.file for f, _ in self.lines[test])
        return any((mutant.file, line) in self.lines[test] for line in range(first, last + 1))


def surveyed(folder: Path, given: argparse.Namespace) -> Ground | None:
    """None if a test fails without any change."""
    unit = tuple(sorted(f"{level}/{f.name}" for level in LEVELS for f in (folder / level).glob("test_*.py")))
    ground, red, without = Ground(folder, given.all_worlds), list[str](), tuple(given.without)

    def done(task: Task, result: Result) -> None:
        if result.failed:
            red.append(f"{task.name}: {result.failed}")
        preload(result.modules)
        if task.traced:
            ground.lines |= {test: set(lines) for test, lines in result.lines.items()}
        else:
            ground.tests |= result.tests

    results(folder, [Task("unit", unit, 600.0, without=without)], 1, done)
    results(folder, [Task("model", (SHORT, WORLDS), 900.0, without=without)], 1, done)
    if not red:
        results(folder, [Task("traced", unit, 900.0, without=without, traced=FILES)], 1, done)
    if red:
        print("Red without any change:", *red, sep="\n  ")
        return None
    return ground


@dataclass
class Tally:
    """What has become of the mutants."""

    all: list[Mutant]
    excused: dict[Excuse, str]
    ends: dict[str, Result] = field(default_factory=dict)

    def done(self, task: Task, result: Result) -> None:
        self.ends[task.name] = result
        word = "over" if result.timed_out else "dead" if result.failed else "ALIVE"
        print(f"{len(self.ends)} {word} {result.seconds:.1f} s {task.name} {result.failed}", flush=True)

    def end(self, mutant: Mutant) -> str:
        if excuse_of(mutant) in self.excused:
            return "excused"
        result = self.ends[mutant.id]
        return "timed out" if result.timed_out else "killed" if result.failed else "survived"

    def table(self) -> str:
        rows: dict[str, Counter[str]] = defaultdict(Counter)
        for mutant in self.all:
            rows[mutant.file][self.end(mutant)] += 1
            rows["all"][self.end(mutant)] += 1
        kinds = ("killed", "survived", "timed out", "excused")
        lines = [f"{'':32}{'mutants':>10}" + "".join(f"{kind:>10}" for kind in kinds) + f"{'dead':>8}"]
        for name in [*sorted(set(rows) - {"all"}), "all"]:
            row = rows[name]
            cells = "".join(f"{row[kind]:10}" for kind in kinds)
            lines.append(f"{name:32}{row.total():10}{cells}{1 - row['survived'] / row.total():8.1%}")
        return "\n".join(lines)

    def survivors(self) -> list[Mutant]:
        return [m for m in self.all if self.end(m) == "survived"]

    def tell(self) -> int:
        """Print all of it; the exit code."""
        print(self.table())
        for m in self.survivors():
            mark = " (metric)" if m.place.metric else ""
            print(f"\n# {m.line}:{m.col} {m.operator}{mark}\n{excuse_of(m)[0]}\n- {m.before}\n+ {m.after}")
        for m in self.all:
            if self.end(m) == "excused":
                print(f"\n# excused {m.id}: {self.excused[excuse_of(m)]}")
        return 0 if len(self.survivors()) <= (1 - LEAST) * len(self.all) else 1


def chosen(given: argparse.Namespace, root: Path) -> list[Mutant]:
    every = [m for file in given.files for m in mutants_of(file, (root / file).read_text())]
    if given.only:
        return [m for m in every if m.id in given.only]
    if given.sample is None or given.sample >= len(every):
        return every
    drawn = random.Random(given.seed).sample(range(len(every)), given.sample)
    return [every[i] for i in sorted(drawn)]


def stale(excused: Iterable[Excuse]) -> list[str]:
    """Excuses whose mutant there is no more."""
    files = {where.partition(" ")[0] for where, *_ in excused}
    known = {excuse_of(m) for file in files for m in mutants_of(file, (ROOT / file).read_text())}
    return [f"{where}: {before}" for where, before, after in excused if (where, before, after) not in known]


def main(arguments: list[str]) -> int:
    given = parsed(arguments)
    if given.list:
        for m in chosen(given, ROOT):
            print(f"{m.id}{' (metric)' if m.place.metric else ''}\n    - {m.before}\n    + {m.after}")
        return 0
    known = excuses(EXCUSES.read_text()) if EXCUSES.exists() else {}
    with tempfile.TemporaryDirectory(prefix="mutants") as name:
        folder = copied(Path(name).resolve())
        tally = Tally(chosen(given, folder), {} if given.only else known)
        if (ground := surveyed(folder, given)) is None:
            return 2
        tasks = [ground.task(m) for m in tally.all if excuse_of(m) not in tally.excused]
        print(f"{len(tally.all)} mutants, {len(ground.tests)} tests", flush=True)
        results(folder, tasks, given.jobs, tally.done)
        if given.only:
            print(*(log.read_text() for log in folder.glob("*.log")), sep="\n")
    for line in stale(known):
        print(f"an excuse for nothing: {line}")
    return tally.tell()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

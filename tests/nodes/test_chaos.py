"""Half an hour of everything at random, under 20 requests a second and 20 streams.

`uv run pytest -s -m chaos tests/nodes` runs it.

One machine is in trouble at a time, and the next is not before all have recovered: that is what a site of three
machines is made for. `CHAOS_MINUTES` makes it shorter or longer, `CHAOS_SEED` repeats a run.
"""

import contextlib
import itertools
import math
import os
import pathlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.breaker.circuit import Policy
from tests.fakes.server import Behaviour
from tests.nodes.account import not_once, sums_agree
from tests.nodes.load import Asked, Load, Outcome, Streamed, print_table, quiet
from tests.nodes.machine import Machine
from tests.nodes.memory import Memory
from tests.nodes.service import Service
from tests.nodes.site import WORKERS, Site, eventually, running_site

pytestmark = pytest.mark.chaos

MINUTES = float(os.environ.get("CHAOS_MINUTES", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
LABELS = {name: "breakwater=actors" for name in WORKERS}
RECOVERY = 2.0  # seconds until a probe of a provider that failed
PROBE_LASTS = 0.3
# Seconds. A circuit that opens again and again within ten minutes waits twice as long each time, up to a bound.
LONGEST_OPEN = Policy().recovery_cap * (1 + Policy().jitter)
LONGEST_SILENCE = 75.0  # of a stream whose own machine vanished: its client gives up
TYPED = {"stream_interrupted", "no_provider_available", "deadline_exceeded", "overloaded"}


@dataclass
class Trouble:
    """What was wrong, on which machine ("" for none), and from when to when its clients may be lost."""

    what: str
    machine: str
    began: float
    ended: float = 0.0


@dataclass
class Chaos:
    site: Site
    dice: random.Random
    troubles: list[Trouble] = field(default_factory=list)
    probes: list[int] = field(default_factory=list)  # how many calls a provider that is down had at a time

    def one(self) -> None:
        """Make trouble, wait until it is over, and until the site is whole again."""
        make = self.dice.choice([self.killed, self.cut, self.frozen, self.terminated, self.head, self.redis, self.down])
        make()
        eventually(self.whole, 240)
        for trouble in self.troubles:
            trouble.ended = min(trouble.ended, time.monotonic())

    def whole(self) -> bool:
        for machine in self.site.workers:
            if not machine.alive:
                self._revive(machine)
        return (
            len(self.site.nodes()) == 1 + len(WORKERS)
            and self.site.running()
            and len(self.site.ready()) == len(WORKERS)
            and all(set(machines) == set(WORKERS) for machines in self.site.placement().values())
            and all(self.site.breaker_answers(machine) for machine in self.site.workers)
        )

    def _revive(self, machine: Machine) -> None:
        """Start a machine that has ended by itself, as Kubernetes does: some notice late that they are dead."""
        self.troubles.append(Trouble("given up", machine.name, self.troubles[-1].began, math.inf))
        machine.kill()
        machine.start()

    @contextlib.contextmanager
    def _trouble(self, what: str, machine: Machine | None = None) -> Iterator[None]:
        made = Trouble(what, "" if machine is None else machine.name, time.monotonic())
        self.troubles.append(made)
        yield
        made.ended = time.monotonic()

    def _worker(self) -> Machine:
        return self.dice.choice(self.site.workers)

    def _restart(self, machine: Machine) -> None:
        machine.kill()
        machine.start()
        eventually(lambda: machine in self.site.ready(), 240)

    def killed(self) -> None:
        machine = self._worker()
        with self._trouble("killed", machine):
            machine.kill_raylet()
            quiet(self.dice.uniform(1, 20))
            self._restart(machine)

    def cut(self) -> None:
        machine = self._worker()
        with self._trouble("cut", machine):
            machine.cut()
            quiet(self.dice.uniform(3, 60))
            machine.mend()
            eventually(lambda: machine in self.site.ready() or not machine.alive, 120)
            self._restart_if_given_up(machine)

    def frozen(self) -> None:
        machine = self._worker()
        with self._trouble("frozen", machine):
            machine.freeze()
            quiet(self.dice.uniform(3, 45))
            machine.thaw()
            quiet(10)
            self._restart_if_given_up(machine)

    def _restart_if_given_up(self, machine: Machine) -> None:
        """Start a machine anew that Ray takes for dead, as Kubernetes would: its processes notice that, and end."""
        if not machine.alive or machine.name not in eventually(self.site.nodes, 60).values():
            self._restart(machine)

    def terminated(self) -> None:
        machine = self._worker()
        with self._trouble("terminated", machine):
            machine.terminate()
            eventually(lambda: not machine.alive, 120)
            self._restart(machine)

    def head(self) -> None:
        with self._trouble("head"):
            self.site.head.kill()
            quiet(self.dice.uniform(3, 90))
            self.site.head.start()
            eventually(self.site.dashboard_answers, 240)

    def redis(self) -> None:
        with self._trouble("Redis"):
            self.site.stop_redis()
            quiet(self.dice.uniform(1, 15))
            self.site.start_redis()
            quiet(5)
            self.site.revive_head()

    def down(self) -> None:
        """The first provider is down: who probes it, does so alone."""
        fake = self.site.fakes["openai"]
        with self._trouble("a provider"):
            fake.behave = Behaviour("status", status=500, pace=PROBE_LASTS)
            eventually(lambda: self._state() == "open", 30)
            quiet(1)
            before = len(fake.at_once)
            quiet(self.dice.uniform(5, 20))
            self.probes += fake.at_once[before:]
            fake.reset()
            eventually(lambda: self._state() == "closed", LONGEST_OPEN + 30)

    def _state(self) -> str:
        """Return what a machine says that is ready: one that was cut off may notice only now that Ray gave it up."""
        first = self.site.ready()[0]
        return str(self.site.get(first, "/v1/providers")["provider_states"]["openai"])


def quick_recovery(config: dict[str, Any]) -> None:
    config["applications"][0]["args"]["breaker"]["recovery_timeout"] = RECOVERY


def test_everything_at_random(tmp_path: pathlib.Path) -> None:
    dice = random.Random(SEED)
    print(f"\nCHAOS_SEED={SEED}")
    with running_site(tmp_path, LABELS, quick_recovery) as site:
        chaos = Chaos(site, dice)
        with Memory(site) as memory, Load(site) as load, Service(site, load):
            until = time.monotonic() + 60 * MINUTES
            while time.monotonic() < until:
                quiet(dice.uniform(2, 8))
                chaos.one()
                last = chaos.troubles[-1]
                print(f"{last.what} {last.machine}: {last.ended - last.began:.0f} s", flush=True)
        print_table(("half an hour", load.since(0.0, WORKERS)))
        report(load.since(0.0, WORKERS), chaos)
        memory.report()
        assert [each for each in load.since(0.0, WORKERS).lost if not is_answer(each, chaos)] == []
        assert [each for each in load.since(0.0, WORKERS).broken if not is_end(each, chaos)] == []
        assert all(number == 1 for number in chaos.probes), chaos.probes
        eventually(lambda: not_once(site, load) == [], 120)
        assert sums_agree(site)
        memory.check()


def report(outcome: Outcome, chaos: Chaos) -> None:
    by_kind = itertools.groupby(sorted(t.what for t in chaos.troubles))
    print("troubles: " + ", ".join(f"{len(list(group))} {what}" for what, group in by_kind))
    print(f"{len(chaos.probes)} probes of a provider that was down, at most {max(chaos.probes, default=0)} at a time")
    for each in outcome.lost[:40]:
        print("lost:", each.entry, round(each.seconds, 2), each.status, each.code, _near(chaos, each.began))
    for stream in outcome.broken[:60]:
        at = stream.last or stream.began
        print("broken:", stream.entry, stream.frames, stream.ended, round(stream.gap, 1), _near(chaos, at))


def _near(chaos: Chaos, at: float) -> str:
    found = [t for t in chaos.troubles if t.began - 1 < at < (t.ended or at) + 1]
    return ", ".join(f"{at - t.began:.1f} s after {t.what} {t.machine}" for t in found)


def in_trouble(entry: str, began: float, ended: float, chaos: Chaos) -> bool:
    """Was the machine that this came in by in trouble meanwhile?"""
    return any(t.machine == entry and t.began - 1 < ended and began < (t.ended or ended) + 1 for t in chaos.troubles)


def is_answer(each: Asked, chaos: Chaos) -> bool:
    """Is it an error with a type, or was it lost with its machine?"""
    return each.code in TYPED or in_trouble(each.entry, each.began, each.began + each.seconds, chaos)


def is_end(each: Streamed, chaos: Chaos) -> bool:
    typed = each.ended.removeprefix("error frame ").split(" ")[-1] in TYPED and each.gap < 20.0
    return typed or (in_trouble(each.entry, each.began, each.last, chaos) and each.gap <= LONGEST_SILENCE + 1)

"""A script from a seed. Each seed draws its own mix first, so that no two worlds are hard in the same way."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.model.script import KINDS, ODD, Burst, Command, Fault, Load, Outage, Script, Stall, Tier
from tests.model.terms.terms import drawn_terms

MOST_BY_TERMS = 5_000  # where each text is read, and each row
MOST = 20_000.0  # requests of a run, about
SHORT = 600.0  # a run of hours has few requests a second instead
NAMES = ("a", "b", "c", "d", "e", "f")
ROWS = ("default", "second", "third")
LONGEST = 5400.0  # a world with few requests lives longer, but not for ever
OUTAGES = {"crash": 0.95, "node": 14.3, "freeze": 64.0}  # seconds until the next incarnation answers


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def drawn(seed: int, seconds: float) -> Script:
    """The world of that seed, `seconds` long; longer if it has only few requests."""
    rng = random.Random(f"{seed}/script")
    rate = log_uniform(rng, 1 / 3600, 200.0)
    if seconds > SHORT:
        rate = min(rate, MOST / seconds)
    seconds = min(max(seconds, min(40 / rate, LONGEST)), MOST / rate)
    tiers = tuple(_tier(rng, name) for name in NAMES[: rng.randint(2, 6)])
    rows = _rows(rng, [tier.name for tier in tiers])
    replicas = rng.randint(1, 4) if rate > 0.05 else rng.randint(1, 2)
    low = log_uniform(rng, 0.001, 2.0)
    load = _load(rng, rate, seconds, rows)
    terms = drawn_terms(seed, [tier.name for tier in tiers])
    return Script(
        name=f"seed {seed}",
        seed=seed,
        seconds=seconds,
        tiers=tiers,
        rows=rows,
        load=load if terms is None else replace(load, most=MOST_BY_TERMS),
        replicas=replicas,
        latency=(low, low * rng.choice([1.0, 1.2, 3.0])),
        lost=rng.choice([0.0, 0.01, 0.03]),
        twice=rng.choice([0.0, 0.01]),
        faults=_faults(rng, seconds, tiers),
        outages=_outages(rng, seconds, replicas),
        commands=_commands(rng, seconds, tiers),
        stalls=_stalls(rng, seconds),
        terms=terms,
    )


def _tier(rng: random.Random, name: str) -> Tier:
    return Tier(name, log_uniform(rng, 0.1, 2.0), log_uniform(rng, 0.2, 12.0), rng.uniform(0.2, 0.8))


def _rows(rng: random.Random, names: list[str]) -> dict[str, tuple[str, ...]]:
    """One to three rows that share targets; the first has at least two tiers."""
    rows = {"default": tuple(rng.sample(names, rng.randint(2, len(names))))}
    for row in ROWS[1 : rng.randint(1, 3)]:
        size = 1 if rng.random() < 0.4 else rng.randint(1, len(names))
        rows[row] = tuple(rng.sample(names, size))
    return rows


def _load(rng: random.Random, rate: float, seconds: float, rows: dict[str, tuple[str, ...]]) -> Load:
    bursts = tuple(
        Burst(at, at + rng.uniform(1, 4), log_uniform(rng, max(5.0, rate), 500.0))
        for at in _instants(rng, seconds, rng.choice([0, 0, 0, 1, 3]))
    )
    odd = rng.choice(ODD) if rng.random() < 0.3 else None
    low = log_uniform(rng, 0.05, 60.0)
    return Load(
        rate=rate,
        streams=rng.choice([0.0, 0.3, 0.5, 0.8, 1.0]),
        hurried=rng.choice([0.0, 0.0, 0.05, 0.3]),
        deadlines=(low, low * rng.choice([1.5, 10.0])),
        leaving=rng.choice([0.0, 0.02, 0.1]),
        pausing=rng.choice([0.0, 0.0, 0.02]),
        long=min(rng.choice([0.0, 0.01, 0.1]), 0.5 / rate),
        bursts=bursts,
        odd=odd,
        odd_together=rng.choice([1, 1, 4]),
        odd_rate=min(log_uniform(rng, 0.02, 2.0), 500 / seconds) if odd else 0.0,
        shares={row: rng.uniform(0.2, 1.0) for row in rows},
    )


def _instants(rng: random.Random, seconds: float, number: int) -> list[float]:
    return sorted(rng.uniform(0, seconds) for _ in range(number))


def _faults(rng: random.Random, seconds: float, tiers: tuple[Tier, ...]) -> tuple[Fault, ...]:
    """Each provider is by itself well and at fault in turn; now and then many fall together."""
    kinds = rng.sample(KINDS, rng.randint(2, len(KINDS)))
    gap = log_uniform(rng, max(40.0, seconds / 30), max(80.0, seconds))
    length = log_uniform(rng, 3, max(6.0, min(seconds / 4, 1800.0)))
    found = [f for tier in tiers for f in _of_one(rng, seconds, tier.name, kinds, gap, length)]
    if rng.random() < 0.3:
        at, end = rng.uniform(0, seconds), rng.uniform(5, 60)
        found += [_fault(rng, t.name, rng.choice(kinds), at, at + end) for t in tiers if rng.random() < 0.8]
    return tuple(_apart(sorted(found, key=lambda f: (f.provider, f.begin))))


def _of_one(
    rng: random.Random, seconds: float, name: str, kinds: list[str], gap: float, length: float
) -> Iterator[Fault]:
    at = rng.expovariate(1 / gap)
    while at < seconds:
        end = at + max(0.5, rng.expovariate(1 / length))
        yield (fault := _fault(rng, name, rng.choice(kinds), at, end))
        at = fault.end + rng.expovariate(1 / gap)


def _fault(rng: random.Random, name: str, kind: str, begin: float, end: float) -> Fault:
    """A provider that throttles goes on until the time that it has named is over."""
    if kind != "429":
        return Fault(name, kind, begin, min(end, begin + 10) if kind == "lost" else end)
    named = float(rng.choice([1, 5, 20, 60, 240]))
    return Fault(name, kind, begin, begin + named * math.ceil((end - begin) / named), named)


def _apart(faults: list[Fault]) -> Iterator[Fault]:
    """One fault of a provider at a time."""
    last: Fault | None = None
    for fault in faults:
        if last is None or last.provider != fault.provider or fault.begin > last.end:
            yield fault
            last = fault


def _outages(rng: random.Random, seconds: float, replicas: int) -> tuple[Outage, ...]:
    """One at a time: crashes, lost nodes, freezes, cuts; in some worlds the actor stays away for good, or long."""
    found: list[Outage] = []
    gap = log_uniform(rng, max(20.0, seconds / 40), max(40.0, 2 * seconds))
    at = rng.expovariate(1 / gap)
    gone = rng.uniform(0.1, 0.8) * seconds if rng.random() < 0.2 else math.inf
    while at < min(seconds, gone):
        found.append(_outage(rng, at, replicas))
        at = found[-1].end + rng.expovariate(1 / gap)
    if gone < seconds:
        until = math.inf if rng.random() < 0.5 else max(at, gone) + rng.uniform(0.3, 0.8) * seconds
        found.append(Outage("gone", max(at, gone), until))
    return tuple(found)


def _outage(rng: random.Random, at: float, replicas: int) -> Outage:
    kind = rng.choice(["crash", "node", "freeze", "partition"])
    if kind == "partition":
        return Outage(kind, at, at + rng.uniform(2, 60), rng.randrange(replicas), rng.random() < 0.5)
    return Outage(kind, at, at + OUTAGES[kind], None, kind != "crash")


def _commands(rng: random.Random, seconds: float, tiers: tuple[Tier, ...]) -> tuple[Command, ...]:
    number = rng.choice([0, 0, 1, 3])
    return tuple(_command(rng, at, rng.choice(tiers).name) for at in _instants(rng, seconds, number))


def _command(rng: random.Random, at: float, provider: str) -> Command:
    verb = rng.choice(["isolate", "isolate", "restore", "recover", "reset"])
    return Command(at, verb, provider, log_uniform(rng, 5, 300) if verb == "isolate" else None)


def _stalls(rng: random.Random, seconds: float) -> tuple[Stall, ...]:
    draw: Callable[[], float] = lambda: log_uniform(rng, 0.05, 15.0)  # noqa: E731  each has its own length
    return tuple(Stall(at, draw()) for at in _instants(rng, seconds, rng.choice([0, 0, 1, 4])))

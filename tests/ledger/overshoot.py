"""How far over a limit do requests go, with 1 to 8 replicas? A simulation, on a virtual clock, without any I/O.

    uv run python -m tests.ledger.overshoot [seeds]

It prints, for each number of replicas, the largest overshoot of all seeds in parts of one request's worst case, the
stated bound, and how much of the limit was used where more was asked for.

Budgets, leases and counters are the real ones. Simulated are requests that come at random, run for a moment or for
minutes and use up to what was held for them; batches that are late, or lost, or whose answers are; replicas that die
with what they have under way and are replaced; clocks that differ. The ledger is not away for so long that replicas
count alone: `without_ledger: refuse`.

Then it prints the same of a month's budget that several clusters share, each with a ledger actor of its own, which
reads once a minute what the others have written to the store.
"""

import heapq
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from actors.ledger.budget import MINUTE, Counters, Limit, Limits, Refusal, Spend
from actors.ledger.messages import WriteAnswer
from actors.ledger.rows import month_of
from actors.ledger.single_writer.leases import Leases
from actors.ledger.single_writer.writer import REREAD_SECONDS
from deployments.usage.budget import Asking, Budget, Reservation

SUBJECT = "tenant:acme"
START = 1_790_000_000_000 + 40_000  # a minute begins
BATCH, LOST_AFTER, PATIENCE, BURIED_AFTER = 0.1, 2.0, 1.0, 5.0


@dataclass(frozen=True)
class Load:
    """What happens in one run. `worst` is tokens and nano-dollars of one request at most."""

    replicas: int = 4
    limit: Limit = field(default_factory=lambda: Limit(monthly_cost=100_000))
    seconds: float = 150.0
    rate: float = 20.0  # requests a second, of all replicas
    worst: tuple[int, int] = (1000, 1000)
    longest: float = 20.0  # a request's seconds
    late: float = 0.0  # the share of batches that take up to a second
    lost: float = 0.0  # the share of batches, and of answers, that never come
    deaths: float = 0.0  # of replicas, a minute
    skew: float = 0.0  # seconds that their clocks may be off
    uneven: bool = False  # most requests come to one replica
    clusters: int = 1  # that share a store; the replicas belong to them in turn


@dataclass(eq=False)
class Replica:
    name: str
    budget: Budget
    skew: float
    rows: list[tuple[int, Spend]] = field(default_factory=list)  # not acknowledged, with their numbers
    end: int = 0  # of its journal
    under_way: dict[int, tuple[Reservation, int, int]] = field(default_factory=dict)
    calls: int = 0
    waiting: list[tuple[float, int, int]] = field(default_factory=list)
    dead: bool = False
    cluster: int = 0


@dataclass
class LedgerActor:
    """What one cluster's ledger actor knows."""

    counters: Counters = field(default_factory=Counters)
    leases: Leases = field(default_factory=Leases)


class World:
    def __init__(self, load: Load, seed: int):
        self.load, self.draw = load, random.Random(seed)
        self.now = 0.0
        self.used: Counter[tuple[str, int | str]] = Counter()  # what has truly been used, by limit and period
        self.admitted = self.refused = 0
        self.made = 0  # replicas, the dead included
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._actors = [LedgerActor() for _ in range(load.clusters)]
        self._taken: dict[tuple[str, int], Spend] = {}  # the rows in the store
        self.replicas = [self._replica() for _ in range(load.replicas)]

    def run(self) -> "World":
        self._after(self.draw.expovariate(self.load.rate), self._arrive)
        if self.load.deaths:
            self._after(self.draw.expovariate(self.load.deaths / 60), self._kill)
        if self.load.clusters > 1:
            for actor in self._actors:
                self._after(self.draw.uniform(0, REREAD_SECONDS), partial(self._reread, actor))
        while self._events and self._events[0][0] <= self.load.seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def _replica(self) -> Replica:
        self.made += 1
        limits = Limits({SUBJECT: self.load.limit}, refuse_unseen=True)
        replica = Replica(f"r{self.made}", Budget(limits), self.draw.uniform(-self.load.skew, self.load.skew))
        replica.cluster = self.made % self.load.clusters
        self._after(self.draw.uniform(0, BATCH), lambda: self._send(replica))
        return replica

    def _reread(self, actor: LedgerActor) -> None:
        """As LedgerWriter does: take the counters from the store, where others write too."""
        self._after(REREAD_SECONDS, partial(self._reread, actor))
        counters = Counters()
        for spend in self._taken.values():
            counters.add(SUBJECT, spend)
        actor.leases.recall(actor.counters.costs_otherwise(counters))
        actor.counters = counters

    def _wall(self, replica: Replica) -> int:
        return START + int((self.now + replica.skew) * 1000)

    # Requests.

    def _arrive(self) -> None:
        self._after(self.draw.expovariate(self.load.rate), self._arrive)
        first = self.load.uneven and self.draw.random() < 0.9
        replica = self.replicas[0] if first else self.draw.choice(self.replicas)
        tokens, cost = (self.draw.randint(most // 2, most) for most in self.load.worst)
        self._ask(replica, self.now + PATIENCE, tokens, cost)

    def _ask(self, replica: Replica, until: float, tokens: int, cost: int) -> None:
        amount, patient = (1, tokens, cost), self.now < until
        answer = replica.budget.reserve([SUBJECT], amount, self._wall(replica), self.now, patient=patient)
        if isinstance(answer, Asking):
            replica.waiting.append((until, tokens, cost))
        elif isinstance(answer, Refusal):
            self.refused += 1
        elif answer is not None:
            self._begin(replica, answer, tokens, cost)

    def _begin(self, replica: Replica, held: Reservation, tokens: int, cost: int) -> None:
        self.admitted += 1
        held.begin()
        self._write(replica, Spend(self._wall(replica), requests=1))
        number = next(self._numbers)
        replica.under_way[number] = held, tokens, cost
        self._after(self.draw.uniform(0, self.load.longest), lambda: self._end(replica, number))

    def _end(self, replica: Replica, number: int) -> None:
        if not replica.dead:
            held, tokens, cost = replica.under_way.pop(number)
            part = self.draw.choice((0.0, 0.5, 1.0, 1.0))
            held.release()
            self._write(replica, Spend(self._wall(replica), 0, int(tokens * part), int(cost * part)))

    def _write(self, replica: Replica, spend: Spend) -> None:
        replica.budget.spent([SUBJECT], spend)
        self._note(replica, spend)

    def _note(self, replica: Replica, spend: Spend) -> None:
        replica.end += 1
        replica.rows.append((replica.end, spend))
        minute = spend.at // MINUTE
        self.used["requests_per_minute", minute] += spend.requests
        self.used["tokens_per_minute", minute] += spend.tokens
        self.used["monthly_cost", month_of(spend.at)] += spend.cost

    # Batches.

    def _send(self, replica: Replica) -> None:
        if replica.dead:
            return
        replica.calls += 1
        call, end, budget = replica.calls, replica.end, replica.budget
        budget.cut(end)
        claims = budget.report(end, self._wall(replica), self.now)
        rows = list(replica.rows)
        there, back = self._delay(), self._delay()

        def arrive() -> None:
            if self.draw.random() >= self.load.lost:
                answer = self._take(replica, rows, claims)
                if self.draw.random() >= self.load.lost:
                    self._after(back, lambda: self._answered(replica, call, end, answer))

        self._after(there, arrive)
        self._after(LOST_AFTER, lambda: self._give_up(replica, call))

    def _delay(self) -> float:
        return self.draw.uniform(0, 1.5) if self.draw.random() < self.load.late else self.draw.uniform(0.001, 0.02)

    def _take(self, replica: Replica, rows: list[tuple[int, Spend]], claims: dict[str, object]) -> WriteAnswer:
        actor = self._actors[replica.cluster]
        for number, spend in rows:
            if (replica.name, number) not in self._taken:
                self._taken[replica.name, number] = spend
                actor.counters.add(SUBJECT, spend)
        totals = actor.counters.totals(subject for subject in claims if subject)
        leases, recalled = actor.leases.answer(replica.name, claims, actor.counters, self.now)
        return {"number": 0, "store": "up", "totals": totals, "leases": leases, "recalled": recalled}

    def _answered(self, replica: Replica, call: int, end: int, answer: WriteAnswer) -> None:
        if call == replica.calls and not replica.dead:
            replica.rows = [(number, spend) for number, spend in replica.rows if number > end]
            replica.budget.acknowledge(end, answer, self.now)
            replica.calls += 1
            self._look_again(replica)
            self._after(BATCH, lambda: self._send(replica))

    def _give_up(self, replica: Replica, call: int) -> None:
        if call == replica.calls and not replica.dead:
            replica.budget.fail()
            self._look_again(replica)
            self._send(replica)

    def _look_again(self, replica: Replica) -> None:
        waiting, replica.waiting = replica.waiting, []
        for until, tokens, cost in waiting:
            self._ask(replica, until, tokens, cost)

    # Deaths.

    def _kill(self) -> None:
        self._after(self.draw.expovariate(self.load.deaths / 60), self._kill)
        replica = self.replicas.pop(self.draw.randrange(len(self.replicas)))
        replica.dead = True
        for _, tokens, cost in replica.under_way.values():  # what it had delivered is in its journal
            part = self.draw.random()
            self._note(replica, Spend(self._wall(replica), 0, int(tokens * part), int(cost * part)))
        self.replicas.append(self._replica())

        def bury() -> None:
            self._take(replica, replica.rows, {})
            self._actors[replica.cluster].leases.drop(replica.name)

        self._after(BURIED_AFTER, bury)

    def overshoot(self) -> float:
        """Return the largest use beyond its limit, in worst cases of one request; negative if none was reached."""
        tokens, cost = self.load.worst
        limit = self.load.limit
        rules = (
            ("requests_per_minute", limit.requests_per_minute, 1),
            ("tokens_per_minute", limit.tokens_per_minute, tokens),
            ("monthly_cost", limit.monthly_cost, cost),
        )
        over = [
            (used - most) / worst
            for name, most, worst in rules
            if most is not None
            for (of, _), used in self.used.items()
            if of == name
        ]
        return max(over, default=0.0)

    def share_used(self) -> float:
        """Return how much of the limit was used, in its best period."""
        limit = self.load.limit
        most = {"requests_per_minute": limit.requests_per_minute, "tokens_per_minute": limit.tokens_per_minute}
        most["monthly_cost"] = limit.monthly_cost
        return max(used / top for (name, _), used in self.used.items() if (top := most[name]) is not None)


LIMITS = {
    "requests a minute": Limit(requests_per_minute=300),
    "tokens a minute": Limit(tokens_per_minute=100_000),
    "cost a month": Limit(monthly_cost=200_000),
}


def main(seeds: int) -> None:
    print(f"{'limit':<20}{'replicas':>9}{'overshoot':>11}{'bound':>7}{'used':>7}   (of {seeds} seeds)")
    for name, limit in LIMITS.items():
        for replicas in range(1, 9):
            over, bound, shares = -1e9, 0, list[float]()
            for seed in range(seeds):
                unkind = seed % 2
                load = Load(replicas, limit, late=0.1 * unkind, lost=0.05 * unkind, deaths=2.0 * unkind)
                world = World(load, seed).run()
                over, bound = max(over, world.overshoot()), max(bound, world.made)
                shares.append(world.share_used())
            print(f"{name:<20}{replicas:>9}{over:>11.2f}{bound:>7}{min(shares):>7.0%}")
    shared_budget(seeds)


BUDGET = Load(8, Limit(monthly_cost=2_400_000), seconds=420.0, longest=2.0)  # it lasts for about five minutes


def shared_budget(seeds: int) -> None:
    """Print how far a budget is overrun that clusters share."""
    print(f"\n{'clusters':<10}{'overrun':>9}   of a month's budget (the most of {seeds} seeds)")
    for clusters in (1, 2, 3, 4):
        load = replace(BUDGET, clusters=clusters)
        assert load.limit.monthly_cost is not None
        worst = max(World(load, seed).run().overshoot() for seed in range(seeds))
        over = worst * load.worst[1] / load.limit.monthly_cost
        print(f"{clusters:<10}{over:>9.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)

"""How much of each limit every replica may use by itself: the leases that the ledger actor gives. Pure.

A replica checks its requests without a message. So it needs to know how much it may use that no other replica may
use too. That is its *lease* of one limit of one subject in one period (a minute's number, or a month).

- A replica *uses* what its rows have used that the store does not have yet, and what it holds for the requests under
  way. It admits a request while it uses less than its lease. So its last request may take it over, and no other.
- With each batch it *claims*: what it will use once this batch is in the store, the lease that it keeps from now on,
  which may be smaller than before, and what it wants. So rows that come into the store move from a lease to the truth.
- What the rows in the store have used and all leases together are never more than the limit. A lease grows by half of
  what is free: there may be others, and they ask ten times a second.
- Where nothing is free but others have leases that they don't use, those are *recalled* with their next batch.
- What a replica holds for requests under way counts in the period in which they end. So its lease of this period
  counts in the next one too, until it has come there and claims what it really holds.

A replica that is silent keeps its lease until it is dead and its journal is in the store: it may have used all of it.
After a restart nothing is known of leases. So nothing is given until the replicas with rows under way have told
theirs, or `SETTLING_SECONDS` have passed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from actors.ledger.budget import Counters
from actors.ledger.messages import SENT, Claim, Claims, Leased, Period

SILENT_SECONDS = 5.0  # who is silent for longer gives nothing back soon
SETTLING_SECONDS = 3.0  # longer than a replica that lives waits between two tries
PERIODS_KEPT = 4  # of one limit: the clocks of replicas differ


@dataclass(frozen=True, slots=True)
class Lease:
    room: int
    used: int

    @property
    def taken(self) -> int:
        return max(self.room, self.used)


NOTHING = Lease(0, 0)


@dataclass(slots=True, eq=False)
class Held:
    """The leases of one limit of one subject: by period and replica, and that of the period in which a replica is."""

    periods: dict[Period, dict[str, Lease]] = field(default_factory=dict)
    now: dict[str, tuple[Period, Lease]] = field(default_factory=dict)

    def put(self, replica: str, period: Period, lease: Lease, *, now: bool) -> None:
        leases = self.periods.setdefault(period, {})
        leases[replica] = lease
        if now:
            self.now[replica] = period, lease
        if lease == NOTHING:
            del leases[replica]
            if now:
                del self.now[replica]
        if len(self.periods) > PERIODS_KEPT:
            del self.periods[min(self.periods, key=str)]

    def drop(self, replica: str) -> None:
        self.now.pop(replica, None)
        for leases in self.periods.values():
            leases.pop(replica, None)

    def later(self, period: Period) -> list[Period]:
        """Return this period and those after it that there are leases of."""
        return [period, *(p for p in self.periods if _is_before(period, p))]

    def of(self, replica: str, period: Period) -> Lease:
        """Return what a replica may have in a period: its lease, or what it brings along from the one before.

        Within a moment it may hold all that its last lease allows, and what is held then counts in the new period.
        """
        lease = self.periods.get(period, {}).get(replica, NOTHING)
        last, before = self.now.get(replica, (period, NOTHING))
        if not _is_before(last, period):
            return lease
        room = before.room if _is_just_before(last, period) else 0
        return Lease(max(lease.room, room), max(lease.used, before.used))

    def __bool__(self) -> bool:
        return bool(self.now) or any(self.periods.values())


def _is_before(one: Period, other: Period) -> bool:
    return one != other and str(one) < str(other)  # numbers of minutes have all the same length


def _is_just_before(one: Period, other: Period) -> bool:
    return one == other - 1 if isinstance(one, int) and isinstance(other, int) else True


class Leases:
    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, Held]] = {}  # by limit
        self._of: dict[str, set[str]] = {}  # replica -> its subjects
        self._heard: dict[str, float] = {}
        self._sent: dict[str, int] = {}
        self._recalled: dict[str, dict[str, None]] = {}
        self._awaited: set[str] = set()
        self._settled_at = 0.0

    def await_claims(self, replicas: Iterable[str], now: float) -> None:
        """Give nothing until these replicas have told what they hold, or have had the time to."""
        self._awaited, self._settled_at = set(replicas) - self._heard.keys(), now + SETTLING_SECONDS

    def answer(self, replica: str, claims: Claims, counters: Counters, now: float) -> tuple[Leased, list[str]]:
        """Take the claims of a replica. Return its leases, and the subjects whose leases others need.

        Of two claims of one limit the first is of the period in which the replica is. Claims that come after later
        ones say nothing any more.
        """
        number = int(claims.get(SENT, 0))
        if number <= self._sent.get(replica, -1):
            return {}, []
        self._sent[replica], self._heard[replica] = number, now
        self._awaited.discard(replica)
        found: Leased = {}
        for subject, claimed in claims.items():
            if subject == SENT:
                continue
            limits, seen = self._subjects.setdefault(subject, {}), set[str]()
            found[subject] = []
            for claim in claimed:
                held = limits.setdefault(claim[0], Held())
                found[subject].append(self._leased(replica, subject, held, claim, counters, now, claim[0] not in seen))
                seen.add(claim[0])
            self._note(replica, subject)
        return found, list(self._recalled.pop(replica, ()))

    def _leased(
        self, replica: str, subject: str, held: Held, claim: Claim, counters: Counters, now: float, current: bool
    ) -> tuple[str, Period, int, bool]:
        """Return one lease, and whether there may soon be more."""
        limit, period, most, used, room, wanted = claim
        held.put(replica, period, Lease(room, used), now=current)
        others = {*held.now, *held.periods.get(period, ())} - {replica}
        free = min(
            most
            - counters.used(subject, limit, then)
            - sum(held.of(name, then).taken for name in others)
            - held.of(replica, then).taken
            for then in held.later(period)
        )
        if free < 0 and room > used:  # another ledger actor wrote into the store, or somebody went over
            room = max(used, room + free)
            held.put(replica, period, Lease(room, used), now=current)
        settling = bool(self._awaited) and now < self._settled_at
        if wanted > room and free > 0 and not settling:
            given = min(wanted - room, (free + 1) // 2)
            room, free = room + given, free - given
            held.put(replica, period, Lease(room, used), now=current)
        if room >= wanted:
            return limit, period, room, True
        idle = free <= 0 and self._recall(subject, {name: held.of(name, period) for name in others}, now)
        return limit, period, room, free > 0 or settling or idle

    def _note(self, replica: str, subject: str) -> None:
        """Remember whose subject it is, or forget it where nobody has anything of it."""
        limits = self._subjects[subject]
        for limit in [name for name, held in limits.items() if not held]:
            del limits[limit]
        if limits:
            self._of.setdefault(replica, set()).add(subject)
        else:
            del self._subjects[subject]

    def _speaks(self, replica: str, now: float) -> bool:
        return now - self._heard.get(replica, now) <= SILENT_SECONDS

    def _recall(self, subject: str, others: Mapping[str, Lease], now: float) -> bool:
        """Ask the others for what they don't use. Return whether there is any."""
        idle = [name for name, lease in others.items() if lease.room > lease.used and self._speaks(name, now)]
        for name in idle:
            self._recalled.setdefault(name, {})[subject] = None
        return bool(idle)

    def recall(self, subjects: Iterable[str]) -> None:
        """Ask all replicas for what they don't use of these: more was used than anybody here knew."""
        for subject in subjects:
            for held in self._subjects.get(subject, {}).values():
                for name in held.now:
                    self._recalled.setdefault(name, {})[subject] = None

    def drop(self, replica: str) -> None:
        """Forget a replica that is dead: its rows are in the store."""
        for subject in self._of.pop(replica, ()):
            limits = self._subjects.get(subject, {})
            for held in limits.values():
                held.drop(replica)
            if not any(limits.values()):
                self._subjects.pop(subject, None)
        for known in (self._heard, self._sent, self._recalled):
            known.pop(replica, None)
        self._awaited.discard(replica)

    def keep(self, replicas: Collection[str]) -> None:
        """Drop all replicas but these."""
        for replica in [name for name in self._heard if name not in replicas]:
            self.drop(replica)

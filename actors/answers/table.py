"""Which request answers for a key, and who reads along: the table behind the answers actor. Pure.

A *run* is one request that is being answered. The replica that has claimed a key leads its run: it asks the providers,
and says so once a second at least. A run of which nothing is heard for LEASE_SECONDS is lost, and the next one that
claims the key leads a run of its own. Another request with the key joins the run, and reads its answer from the first
byte.

The answer itself is only handed over where somebody has joined, or where it is to be kept. It is kept by its key as
long as its replica said, and by its run for a moment more, for those who still read it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from actors.answers.messages import Claimed, Heard, Item, LeadingByKey

LEASE_SECONDS = 5.0  # without a word of it, and a run is lost
SPARE_SECONDS = 2.5  # in which replicas speak again that could not be heard
LOOK_SECONDS = 5.0  # since a reader last looked, and it has left
READ_SECONDS = 30.0  # that an answer is there for those who have joined it, from their last look at it
OVER_SECONDS = 60.0  # that a run is known to be over: a late word of it is no news
MOST_BYTES = 64 * 1024 * 1024  # of answers that have ended


@dataclass(slots=True)
class _Run:
    key: str
    name: str
    fingerprint: str
    heard: float  # when its replica last spoke of it
    items: list[Item] = field(default_factory=list)
    size: int = 0
    ended: bool = False
    looked: float | None = None  # when somebody who has joined last looked
    kept_until: float = 0.0  # for new requests with its key; once it has ended


class Answers:
    """`clock` is monotonic, in seconds. Keys and fingerprints are digests: what a client chose is not here."""

    def __init__(self, clock: Callable[[], float], most_bytes: int = MOST_BYTES):
        self._clock, self._most = clock, most_bytes
        self._by_key: dict[str, _Run] = {}  # the run that a new request with the key would join
        self._runs: dict[str, _Run] = {}
        self._over: dict[str, float] = {}  # the names of runs that are over, and until when that is remembered

    def claim(self, key: str, fingerprint: str, run: str, *, begin: bool = True) -> Claimed:
        """Say what a request with this key is to do; see `Claimed`.

        Without `begin` it never leads, and an answer that has ended is there for it once.
        """
        self.sweep()
        found = self._by_key.get(key)
        if found is not None and found.name == run:
            found.heard = self._clock()
            return {"state": "lead", "run": run, "lost": False, "ended": found.ended}
        lost = found is not None and self._is_lost(found)
        if found is None or lost:
            if not begin:
                return {"state": "none", "run": "", "lost": lost, "ended": False}
            self._lead(key, fingerprint, run)
            return {"state": "lead", "run": run, "lost": lost, "ended": False}
        if found.fingerprint != fingerprint:
            return {"state": "other", "run": found.name, "lost": False, "ended": found.ended}
        found.looked = self._clock()
        if found.ended and not begin:
            self._leave_key(found)
        return {"state": "join", "run": found.name, "lost": False, "ended": found.ended}

    def knows(self, key: str) -> bool:
        """Return whether there is a run of this key."""
        return key in self._by_key

    def has(self, run: str) -> bool:
        """Return whether anything is known of a run."""
        return run in self._runs

    def renew(self, leading: LeadingByKey) -> None:
        """Note that a replica lives and leads these runs.

        What is not known here is taken over: this actor may be younger than the run. It is not where the run is over,
        or somebody else has claimed the key since; the run's own client gets its answer all the same.
        """
        for key, told in leading.items():
            if (known := self._runs.get(told["run"])) is not None:
                known.heard = self._clock()
            elif told["run"] not in self._over and (key not in self._by_key or self._is_lost(self._by_key[key])):
                self._lead(key, told["fingerprint"], told["run"])

    def spare(self, since: float) -> None:
        """Let no run be lost for a moment that was not before `since`: from then on the actor itself stood still."""
        latest = self._clock() - LEASE_SECONDS + SPARE_SECONDS
        for run in self._runs.values():
            if run.heard + LEASE_SECONDS > since:
                run.heard = max(run.heard, latest)

    def wanted(self, runs: Collection[str]) -> list[str]:
        """Return those of these runs that somebody reads now."""
        since = self._clock() - LOOK_SECONDS
        found = (self._runs[name] for name in runs if name in self._runs)
        return [run.name for run in found if not run.ended and run.looked is not None and run.looked >= since]

    def put(self, run: str, index: int, items: Sequence[Item], *, ended: bool, keep: float) -> bool:
        """Take more of a run's answer, from this item on. Return False if what comes before it is not here.

        `keep` is for how many seconds from its end new requests with its key get the answer.
        """
        if (found := self._runs.get(run)) is None or index > len(found.items):
            return False
        gone = found.items[index:]
        found.items[index:] = items
        found.size += _size(items) - _size(gone)
        found.heard = self._clock()
        if ended:
            self._end(found, keep)
        return True

    def end(self, run: str) -> bool:
        """Note that a run's answer has ended, and is not to be kept. Return whether somebody waits to read it."""
        if (found := self._runs.get(run)) is None:
            self._remember(run)
            return False
        if not found.ended and found.looked is not None:
            return True
        self._end(found, 0.0)
        return False

    def drop(self, run: str) -> None:
        """Forget a run that gives no answer: who reads it is told that it is gone."""
        self._remember(run)
        if (found := self._runs.pop(run, None)) is not None:
            self._leave_key(found)

    def read(self, run: str, index: int) -> Heard:
        """Return what there is of a run's answer from this item on."""
        found = self._runs.get(run)
        if found is None or self._is_lost(found) or self._is_over(found):
            return {"items": [], "ended": False, "gone": True}
        found.looked = self._clock()
        return {"items": found.items[index:], "ended": found.ended, "gone": False}

    def sweep(self) -> None:
        """Forget what nobody can ask for any more."""
        now = self._clock()
        for run in list(self._runs.values()):
            if run.ended and run.kept_until <= now:
                self._leave_key(run)
            if self._is_over(run) or (self._is_lost(run) and run.heard + LEASE_SECONDS + READ_SECONDS <= now):
                self.drop(run.name)
        for name in [name for name, until in self._over.items() if until <= now]:
            del self._over[name]

    def _lead(self, key: str, fingerprint: str, run: str) -> None:
        self._by_key[key] = self._runs[run] = _Run(key, run, fingerprint, self._clock())

    def _end(self, run: _Run, keep: float) -> None:
        run.ended, run.kept_until = True, self._clock() + keep
        self._remember(run.name)
        self._make_room()
        self.sweep()

    def _remember(self, run: str) -> None:
        self._over[run] = self._clock() + OVER_SECONDS

    def _make_room(self) -> None:
        """Forget of what has ended what would be forgotten first, where it is too much."""
        ended = sorted((run for run in self._runs.values() if run.ended), key=self._needed_until)
        size = sum(run.size for run in ended)
        for run in ended:
            if size <= self._most:
                return
            size -= run.size
            self.drop(run.name)

    def _leave_key(self, run: _Run) -> None:
        if self._by_key.get(run.key) is run:
            del self._by_key[run.key]

    def _needed_until(self, run: _Run) -> float:
        return max(run.kept_until, 0.0 if run.looked is None else run.looked + READ_SECONDS)

    def _is_over(self, run: _Run) -> bool:
        return run.ended and self._needed_until(run) <= self._clock()

    def _is_lost(self, run: _Run) -> bool:
        return not run.ended and run.heard + LEASE_SECONDS <= self._clock()


def _size(items: Sequence[Item]) -> int:
    return sum(len(item) for item in items if isinstance(item, bytes))

"""Which request answers for a key, and who reads along: the table behind the answers actor. Pure.

A *run* is one request that is being answered. The replica that has claimed a key leads its run: it asks the providers,
and says so once a second at least. A replica that is silent for LEASE_SECONDS is gone, and the next one that claims
the key leads a run of its own. Another request with the key joins the run, and reads its answer from the first byte.

The answer itself is only handed over where somebody has joined, or where it is to be kept. It is kept by its key as
long as its replica said, and by its run for a moment more, for those who still read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from actors.answers.messages import Claimed, Heard, Item, LeadingByKey

LEASE_SECONDS = 5.0  # without a word, and a replica is gone
READ_SECONDS = 30.0  # that an answer is there for those who have joined it, from its end or their last look at it
MOST_BYTES = 64 * 1024 * 1024  # of answers that have ended


@dataclass(slots=True)
class _Run:
    key: str
    name: str
    fingerprint: str
    replica: str
    items: list[Item] = field(default_factory=list)
    size: int = 0
    ended: bool = False
    wanted: bool = False  # somebody has joined
    kept_until: float = 0.0  # for new requests with its key; once it has ended
    read_until: float = 0.0  # for those who have joined


class Answers:
    """`clock` is monotonic, in seconds. Keys and fingerprints are digests: what a client chose is not here."""

    def __init__(self, clock: Callable[[], float], most_bytes: int = MOST_BYTES):
        self._clock, self._most = clock, most_bytes
        self._by_key: dict[str, _Run] = {}  # the run that a new request with the key would join
        self._runs: dict[str, _Run] = {}
        self._heard: dict[str, float] = {}  # replica to when it last said something

    def claim(self, key: str, fingerprint: str, run: str, replica: str, *, begin: bool = True) -> Claimed:
        """Say what a request with this key is to do; see `Claimed`. Without `begin` it never leads."""
        self.sweep()
        self._heard[replica] = self._clock()
        found = self._by_key.get(key)
        lost = found is not None and self._is_lost(found)
        if found is not None and found.fingerprint != fingerprint:
            return {"state": "other", "run": found.name, "lost": False, "ended": found.ended}
        if found is not None and not lost:
            self._want(found)
            return {"state": "join", "run": found.name, "lost": False, "ended": found.ended}
        if not begin:
            return {"state": "none", "run": "", "lost": lost, "ended": False}
        self._lead(key, fingerprint, run, replica)
        return {"state": "lead", "run": run, "lost": lost, "ended": False}

    def renew(self, replica: str, leading: LeadingByKey) -> list[str]:
        """Note that a replica lives and leads these runs. Return those of its runs that somebody wants to read.

        What is not known here is taken over: this actor may be younger than the run. It is not where somebody else has
        claimed the key since; the run's own client gets its answer all the same.
        """
        self._heard[replica] = self._clock()
        for key, told in leading.items():
            if told["run"] not in self._runs and (key not in self._by_key or self._is_lost(self._by_key[key])):
                self._lead(key, told["fingerprint"], told["run"], replica)
        return [run.name for run in self._runs.values() if run.replica == replica and run.wanted and not run.ended]

    def put(self, run: str, index: int, items: Sequence[Item], *, ended: bool, keep: float) -> bool:
        """Take more of a run's answer, from this item on. Return False if what comes before it is not here.

        `keep` is for how many seconds from its end new requests with its key get the answer.
        """
        if (found := self._runs.get(run)) is None or index > len(found.items):
            return False
        found.items[index:] = items
        found.size += sum(len(item) for item in items if isinstance(item, bytes))
        if ended:
            self._end(found, keep)
        return True

    def end(self, run: str) -> bool:
        """Note that a run's answer has ended, and is not to be kept. Return whether somebody waits to read it."""
        if (found := self._runs.get(run)) is None:
            return False
        if found.wanted:
            return True
        self._end(found, 0.0)
        return False

    def read(self, run: str, index: int) -> Heard:
        """Return what there is of a run's answer from this item on."""
        found = self._runs.get(run)
        if found is None or self._is_lost(found) or self._is_over(found):
            return {"items": [], "ended": False, "gone": True}
        self._want(found)
        return {"items": found.items[index:], "ended": found.ended, "gone": False}

    def replica_of(self, run: str) -> str:
        """Return the replica that leads a run; nobody's name if there is no such run."""
        return self._runs[run].replica if run in self._runs else ""

    def sweep(self) -> None:
        """Forget what nobody can ask for any more, and the oldest of what is kept where it is too much."""
        now = self._clock()
        for run in list(self._runs.values()):
            if run.ended and run.kept_until <= now:
                self._leave_key(run)
                if self._is_over(run):
                    del self._runs[run.name]
            elif self._is_lost(run) and self._heard.get(run.replica, 0.0) + LEASE_SECONDS + READ_SECONDS < now:
                self._leave_key(run)
                del self._runs[run.name]
        leaders = {run.replica for run in self._runs.values()}
        for replica in [r for r, at in self._heard.items() if r not in leaders and at + READ_SECONDS < now]:
            del self._heard[replica]

    def _lead(self, key: str, fingerprint: str, run: str, replica: str) -> None:
        self._by_key[key] = self._runs[run] = _Run(key, run, fingerprint, replica)

    def _want(self, run: _Run) -> None:
        run.wanted = True
        run.read_until = self._clock() + READ_SECONDS

    def _end(self, run: _Run, keep: float) -> None:
        now = self._clock()
        run.ended, run.kept_until = True, now + keep
        self._make_room()
        self.sweep()

    def _make_room(self) -> None:
        ended = sorted((run for run in self._runs.values() if run.ended), key=lambda run: run.kept_until)
        size = sum(run.size for run in ended)
        for run in ended:
            if size <= self._most:
                return
            size -= run.size
            self._leave_key(run)
            del self._runs[run.name]

    def _leave_key(self, run: _Run) -> None:
        if self._by_key.get(run.key) is run:
            del self._by_key[run.key]

    def _is_over(self, run: _Run) -> bool:
        return run.ended and max(run.kept_until, run.read_until) <= self._clock()

    def _is_lost(self, run: _Run) -> bool:
        return not run.ended and self._heard.get(run.replica, 0.0) + LEASE_SECONDS <= self._clock()

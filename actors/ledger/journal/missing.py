"""Who writes to the ledger, when each was heard last, and whose journal is missing. Pure.

A replica that leaves says so, once all its rows are in the store; for one that has died, whoever finds its journal says
it. A journal of which neither was said lies on a disk that nobody of us sees now: on a node that is gone.
"""

from dataclasses import dataclass
from typing import NamedTuple

MISSING_AFTER_SECONDS = 30.0  # of silence; a replica that lives is heard every few seconds
KEPT_SECONDS = 86_400.0  # how long a missing journal is told of: whoever wants it back has looked by then
MOST = 1000  # writers; beyond them the longest silent ones are forgotten


class MissingJournal(NamedTuple):
    """The journal of a silent replica. `host` is where it ran; None if that was said to an earlier ledger actor."""

    replica: str
    host: str | None
    seconds: float  # of silence


@dataclass(slots=True)
class _Writer:
    heard_at: float
    host: str | None


class Writers:
    """Times are those of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Writer] = {}

    def __len__(self) -> int:
        return len(self._known)

    def hear(self, replica: str, host: str | None, now: float) -> None:
        """Note that a replica has written. `host` is None if it will not say that it leaves."""
        self._known.pop(replica, None)  # the order is that of the last words
        self._known[replica] = _Writer(now, host)
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def expect(self, replica: str, now: float) -> None:
        """Note a replica that had requests open when this actor began: it is alive, or its journal is to be found."""
        self._known.setdefault(replica, _Writer(now, ""))

    def forget(self, replica: str) -> None:
        """Take a replica as gone, with all its rows in the store."""
        self._known.pop(replica, None)

    def heard_at(self, replica: str, otherwise: float) -> float:
        known = self._known.get(replica)
        return otherwise if known is None else known.heard_at

    def heard_since(self, before: float) -> set[str]:
        return {name for name, known in self._known.items() if known.heard_at >= before}

    def missing(self, now: float) -> list[MissingJournal]:
        """Return the journals of silent replicas that would have said that they leave, the longest silent first."""
        self._known = {n: w for n, w in self._known.items() if now - w.heard_at < KEPT_SECONDS}
        silent = [(n, w) for n, w in self._known.items() if w.host is not None]
        return [
            MissingJournal(name, known.host or None, round(now - known.heard_at, 1))
            for name, known in sorted(silent, key=lambda pair: pair[1].heard_at)
            if now - known.heard_at > MISSING_AFTER_SECONDS
        ]

"""Which replicas write to the store, and when each was heard last. Blocks.

Several ledger actors may share a store, one for each cluster, and none hears the replicas of another. So each writes
down whom it hears: the open rows of those are not lost. A replica that leaves, or whose journal somebody has found, is
deleted. What stays is a replica that is gone with its node, and with the journal on that node's disk.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, select, text

from actors.ledger.tables import WRITERS

log = logging.getLogger(__name__)

BEAT_SECONDS = 30.0  # between two times that this is written
MISSING_SECONDS = 75.0  # of silence, after which a journal is missing: two beats, and some time for the store
KEPT_SECONDS = 86_400.0  # how long it is told: whoever wants the journal back has looked by then

_BEAT = text("""
    INSERT INTO ledger_writers (owner, host, heard_at) VALUES (:owner, :host, :heard_at)
    ON CONFLICT (owner) DO UPDATE SET host = excluded.host, heard_at = excluded.heard_at
""")


class MissingJournal(NamedTuple):
    """The journal of a silent replica: its files are named so, and lie on the disk of that host."""

    replica: str
    host: str
    seconds: float  # of silence


class Heard:
    """The replicas that one ledger actor has heard, on a monotonic clock, and the journals that are missing."""

    def __init__(self, now: float) -> None:
        self._heard: dict[str, tuple[float, str | None]] = {}  # replica: when, and where it runs
        self._new = False  # is there one that the store has not been told of?
        self._beat_at = now + BEAT_SECONDS  # until then nearly nobody has been heard
        self._beaten = False  # did the last beat come into the store?
        self.missing: list[MissingJournal] = []

    def __len__(self) -> int:
        return len(self._heard)

    def __iter__(self) -> Iterator[str]:
        return iter(self._heard)

    def hear(self, replica: str, host: str | None, now: float) -> None:
        """Note a sign of life. `host` is None if the replica will not say that it leaves."""
        self._new = self._new or replica not in self._heard
        self._heard[replica] = now, host

    def at(self, replica: str, otherwise: float) -> float:
        """Return when a replica was heard last."""
        return self._heard.get(replica, (otherwise, None))[0]

    def is_due(self, now: float) -> bool:
        """Return whether the store is to be told whom we have heard: a new one may be gone with its node soon."""
        return self._new or now >= self._beat_at

    def begin_beat(self, now: float) -> dict[str, str | None]:
        """Return where the replicas run that are to be written down now."""
        self._new = False
        return {replica: host for replica, (at, host) in self._heard.items() if at >= now - BEAT_SECONDS}

    def end_beat(self, missing: Sequence[MissingJournal] | None, now: float) -> None:
        """Take the journals that are missing, as the store says; None if it was away, which is tried again soon."""
        if missing is None:
            self._beaten, self._new = False, True
        elif now >= self._beat_at:  # a beat for a new one comes too soon to tell who does not come back
            if self._beaten:  # else the store has not been told for long who lives
                self.learn(missing)
            self._beaten, self._beat_at = True, now + BEAT_SECONDS

    def forget(self, replica: str) -> None:
        self._heard.pop(replica, None)
        self.missing = [each for each in self.missing if each.replica != replica]

    def forget_older(self, before: float) -> None:
        self._heard = {replica: heard for replica, heard in self._heard.items() if heard[0] >= before}

    def learn(self, missing: Sequence[MissingJournal]) -> None:
        """Take the journals that are missing now, and tell the log of new ones."""
        known = {each.replica for each in self.missing}
        if any(each.replica not in known for each in missing):
            log.warning(
                "The journals of %d replicas are missing: rows that they had not sent lie on the disks of their nodes. "
                "They ran on: %s",
                *(len(missing), ", ".join(sorted({each.host for each in missing}))),
            )
        self.missing = list(missing)


def beat(connection: Connection, hosts: Mapping[str, str | None], now: int) -> None:
    """Write down that these replicas were heard. `hosts` says where each runs; None if it won't say that it leaves."""
    lines = [{"owner": owner, "host": host, "heard_at": now} for owner, host in sorted(hosts.items())]
    if lines:
        connection.execute(_BEAT, lines)
    connection.execute(delete(WRITERS).where(WRITERS.c.heard_at < now - int(KEPT_SECONDS * 1000)))


def heard_since(connection: Connection, since: int) -> set[str]:
    """Return the replicas that any ledger actor has heard since then."""
    return set(connection.execute(select(WRITERS.c.owner).where(WRITERS.c.heard_at >= since)).scalars())


def missing(connection: Connection, now: int) -> list[MissingJournal]:
    """Return the journals of silent replicas, those that are silent for longest first."""
    silent = (WRITERS.c.heard_at < now - int(MISSING_SECONDS * 1000)) & WRITERS.c.host.is_not(None)
    asked = select(WRITERS.c.owner, WRITERS.c.host, WRITERS.c.heard_at).where(silent).order_by(WRITERS.c.heard_at)
    return [MissingJournal(owner, host, (now - at) / 1000) for owner, host, at in connection.execute(asked)]


def forget(connection: Connection, owner: str) -> None:
    """Delete a replica that is gone, with all its rows in the store."""
    connection.execute(delete(WRITERS).where(WRITERS.c.owner == owner))

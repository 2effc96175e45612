"""The ingress's end of the ledger: rows go to a journal at once, and to the actor in batches. No Ray.

A row is in the journal when `open` or `settle` returns: it survives a kill -9 of this process. Batches
are cut from the journal twice a second, so that most attempts have ended when they are sent, and ten times
a second where there are limits: each carries what this replica claims of them. Batches are numbered, and sent
again until they are acknowledged. While the actor or its store is away, rows wait on disk and requests go on.
What a dead replica on this machine has left is sent by the first that finds it.

A request waits for a batch only where a limit stands and this replica has no lease of it. The actor is a function
`call(method, *arguments)`.
"""

import asyncio
import contextlib
import logging
import pathlib
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from actors.ledger.budget import Limits, Refusal, Spend, subjects_of
from actors.ledger.journal.journal import MOST, Journal
from actors.ledger.journal.orphans import Orphan, orphans
from actors.ledger.messages import ClientHealth, FoundRequest, UsageRow, Viewer, WriteAnswer
from actors.ledger.questions.used import as_words
from actors.ledger.rows import written_at
from actors.metrics import Meter
from deployments.newest import Newest
from deployments.usage.budget import ASKING, Asking, Budget, Reservation
from deployments.usage.prices import PriceList
from deployments.usage.records import AttemptUsage, UsageRecord
from deployments.usage.token_estimate import TokenEstimator

log = logging.getLogger(f"ray.serve.{__name__}")

ActorCall = Callable[..., Awaitable[Any]]

FLUSH_SECONDS = 0.5
LIMITED_FLUSH_SECONDS = 0.1
LONGEST_PAUSE = 2.0  # between two tries while the ledger is away
WRITE_SECONDS = 15.0
HEARTBEAT_SECONDS = 2.0  # between signs of life when there is nothing to write
LEASE_SECONDS = 0.5  # the same, while this replica has leases that another may need
WAIT_SECONDS = 1.0  # the longest that a request waits for a lease; most wait for one batch
PROGRESS_SECONDS = 1.0  # what a stream has delivered is written down so often: a kill loses no more
RECOVER_SECONDS = 5.0
CLOSE_SECONDS = 2.0  # how long a replica that leaves tries to get its last rows away
CHUNK = 256 * 1024
PIECE = 64 * 1024  # bytes of one argument: Ray has a longer one fetched from its object store, which takes far longer
ESTIMATORS = 1000  # pairs of target and caller whose token estimates are kept; clients may pin any target


class StoreAway(ConnectionError):
    """The ledger actor answered, and its store did not."""


class LedgerClient:
    def __init__(
        self,
        connect: Callable[[], Awaitable[ActorCall]],
        folder: pathlib.Path,
        *,
        prices: PriceList | None = None,
        limits: Limits | None = None,
        most: int = MOST,
        host: str = "",
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.prices = prices or PriceList({})
        self.replica = secrets.token_hex(8)
        self.budget = Budget(limits or Limits())
        self._connect = connect
        self._folder, self._host = folder, host
        self._wall, self.seconds = wall, clock
        self._journal = Journal(folder, self.replica, most=most, clock=clock)
        self._estimators = Newest[tuple[str, tuple[str, ...]], TokenEstimator](ESTIMATORS)
        self._open: dict[tuple[str, int], AttemptUsage] = {}
        self._requests = 0
        self._actor: ActorCall | None = None
        self._number = 0
        self._batch: tuple[bytes, int] | None = None  # lines, and the position behind them
        self._rewriting = False
        self._sent_at = clock()
        self._answered: asyncio.Event = asyncio.Event()  # is set when the actor has answered, or has not
        self._up = False
        self._takes_more = False  # whether the actor takes a batch in several arguments
        self._known = False  # does the ledger expect to hear of us again?
        self._recovered = self._refused = self._rejected = self._reported = self._missing = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # for what lies before a position

    def start(self) -> bool:
        """Begin to deliver; False if that has begun. Needs a running loop."""
        if self._tasks:
            return False
        self._tasks = [asyncio.create_task(self._deliver()), asyncio.create_task(self._patrol())]
        return True

    async def close(self) -> None:
        """Send what is left, or leave it to the next replica on this machine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._journal.lines:
                    await self._send()
                if self.budget.holds:
                    self.budget.give_back()
                    await self._send()
                if self._known:
                    await self._send_to_store("bury", self.replica)
                    self._known = False
        # Whoever finds the lock says in our place that we are gone: else this journal would count as missing.
        self._journal.close(found_by_others=self._known)

    # What a request asks and tells.

    async def admit(
        self, tenant: str | None, key_name: str | None = None, tokens: int = 0, cost: int = 0
    ) -> Reservation | Refusal | None:
        """Hold what a request of this tenant and key may use; None if no limit stands. Return why it may not begin.

        It waits where only the ledger actor can tell: all that wait do so for the same answer.
        """
        answer = self.reserve(tenant, key_name, tokens, cost)
        if not isinstance(answer, Asking):
            return answer
        until = self.seconds() + WAIT_SECONDS
        while answer is ASKING and (left := until - self.seconds()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._answered.wait()
            answer = self.reserve(tenant, key_name, tokens, cost)
        if not isinstance(answer, Asking):
            return answer
        last = self.reserve(tenant, key_name, tokens, cost, patient=False)
        assert not isinstance(last, Asking)
        return last

    def reserve(
        self, tenant: str | None, key_name: str | None = None, tokens: int = 0, cost: int = 0, *, patient: bool = True
    ) -> Reservation | Refusal | Asking | None:
        """Return what `admit` returns, or ASKING where it would wait."""
        if not self.budget.limits:
            return None
        amount = 1, tokens, cost
        answer = self.budget.reserve(subjects_of(tenant, key_name), amount, self.now(), self.seconds(), patient=patient)
        self._refused += isinstance(answer, Refusal)
        return answer

    def begin(self, **details: Any) -> UsageRecord:
        """Return the usage record of a request; `details` as UsageRecord takes them."""
        self._requests += 1
        return UsageRecord(self, self.replica, f"{self.replica}-{self._requests:x}", **details)

    async def caught_up(self, seconds: float) -> bool:
        """Wait until the store has all that this replica has written so far. Return whether it has within `seconds`."""
        if not self._journal.lines:
            return True
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._journal.end, acknowledged))
        done, _ = await asyncio.wait([acknowledged], timeout=seconds)
        self._waiting = [(position, waiter) for position, waiter in self._waiting if waiter is not acknowledged]
        return bool(done)

    async def usage(self, filters: Mapping[str, Any], group_by: Iterable[str] = ()) -> list[UsageRow]:
        """Return what was used: see actors/ledger/questions/usage.py.

        Raises ConnectionError while the ledger is away.
        """
        if self._actor is None:
            raise ConnectionError("the ledger actor is away")
        return list(await self._actor("usage", dict(filters), list(group_by)))

    async def requests(
        self,
        filters: Mapping[str, Any],
        before: str | None = None,
        limit: int | str | None = None,
        viewer: Viewer | None = None,
    ) -> UsageRow:
        """Return a page of requests: see actors/ledger/questions/requests.py. Raises as `usage` does."""
        asked = {"filters": dict(filters), "before": before, "limit": limit, "viewer": viewer}
        (page,) = await self.usage({"question": "requests", **asked})
        return page

    async def traffic(self) -> UsageRow:
        """Return the last hour and the last day: see actors/ledger/questions/traffic.py. Raises as `usage` does."""
        (answer,) = await self.usage({"question": "traffic"})
        return answer

    async def limits(self, only: Collection[str] | None = None) -> list[UsageRow]:
        """Return what is used of the limits here, of all subjects or `only` these.

        See actors/ledger/questions/used.py. Raises as `usage` does.
        """
        if not self.budget.limits:
            return []
        whose = None if only is None else list(only)
        return await self.usage({"question": "limits", "limits": as_words(self.budget.limits), "only": whose})

    async def request(self, name: str, viewer: Viewer | None = None) -> FoundRequest | None:
        """Return the rows of a request, by our id, or the newest by the caller's that the viewer may see.

        Raises ConnectionError.
        """
        if self._actor is None:
            raise ConnectionError("the ledger actor is away")
        found: FoundRequest | None = await self._actor("request", name, *([] if viewer is None else [viewer]))
        return found

    def health(self) -> ClientHealth:
        return {
            "store": "up" if self._up else "down",
            "journal": "memory" if self._journal.broken else "disk",
            "lag_rows": self._journal.lines,
            "lag_seconds": self._lag(),
            "dropped": self._lost,
            "adopted": self._recovered,
            "refused": self._refused,
            "missing": self._missing,
        }

    def sample(self, meter: Meter) -> None:
        """Set the gauges of how far the store is behind."""
        meter.set("breakwater_ledger_lag_seconds", (), self._lag())
        meter.set("breakwater_ledger_lag_rows", (), self._journal.lines)
        meter.set("breakwater_ledger_missing_journals", (), self._missing)
        lost = self._lost
        meter.add("breakwater_ledger_dropped_total", (), lost - self._reported)
        self._reported = lost

    @property
    def _lost(self) -> int:
        return self._journal.dropped + self._rejected

    def _lag(self) -> float:
        """Return how many seconds old the oldest line is that is not acknowledged."""
        data, _ = self._journal.read(CHUNK)
        at = written_at(data)
        return 0.0 if at is None else round(max(0.0, self._wall() - at / 1000), 3)

    # The sink that usage records are written into.

    def now(self) -> int:
        return int(self._wall() * 1000)

    def estimator(self, target: str, caller: tuple[str, ...]) -> TokenEstimator:
        """Return what is known of a target's answers to this caller: another's never bend its estimates."""
        known = self._estimators.get((target, caller))
        if known is None:
            known = self._estimators[target, caller] = TokenEstimator()
        return known

    def write(self, line: bytes) -> None:
        drops = self._journal.drops
        self._journal.append(line)
        if self._journal.drops != drops and not self._rewriting:
            self._rewriting = True
            for entry in self._open.values():
                entry.write()  # its first line may be among them, and nobody else knows of it
            self._rewriting = False

    def spent(self, subjects: list[str], spend: Spend) -> None:
        if self.budget.limits:
            self.budget.spent(subjects, spend)

    def opened(self, entry: AttemptUsage) -> None:
        self._open[entry.name] = entry

    def closed(self, entry: AttemptUsage) -> None:
        self._open.pop(entry.name, None)

    # The two loops.

    async def _deliver(self) -> None:
        pause = usual = LIMITED_FLUSH_SECONDS if self.budget.limits else FLUSH_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                while await self._send():
                    pass
                self._up, pause = True, usual
            except Exception as error:
                if self._up:  # once an absence, not once a try
                    log.warning(
                        "The ledger does not take rows (%s). They wait in the journal, and are sent again.",
                        error or type(error).__name__,
                    )
                if not isinstance(error, StoreAway):
                    self._actor, self._takes_more = None, False  # the next one may be of an earlier version
                self._up, pause = False, min(2 * pause, LONGEST_PAUSE)
                self.budget.fail()
                self._wake()

    async def _send(self) -> bool:
        """Get one batch acknowledged. Return whether another whole one waits."""
        if self._batch is None:
            data, position = self._journal.read(CHUNK)
            if not data and self._up and not self._is_due():
                return False
            self._number += 1
            self._batch = data, position
            self.budget.cut(self._journal.end)
        data, position = self._batch
        claims = self.budget.report(position, self.now(), self.seconds()) if self.budget.limits else {}
        self._known = True
        first, *more = _pieces(data) if self._takes_more else [data]
        ack: WriteAnswer = await self._send_to_store(
            "write", self.replica, self._number, first, claims, self._host, *more
        )
        self._takes_more = ack.get("takes_more", False)
        self._batch = None
        self._sent_at = self.seconds()
        self._journal.acknowledge(position, data.count(b"\n"))
        self.budget.acknowledge(position, ack, self.seconds())
        self._wake()
        for end, waiter in self._waiting:
            if end <= position and not waiter.done():
                waiter.set_result(None)
        return self._journal.end - position > CHUNK

    def _wake(self) -> None:
        """Let the requests look again that wait for an answer."""
        self._answered.set()
        self._answered = asyncio.Event()

    def _is_due(self) -> bool:
        """Is there something to say though there is nothing to write?"""
        silence = self.seconds() - self._sent_at
        return self.budget.asks or silence >= (LEASE_SECONDS if self.budget.holds else HEARTBEAT_SECONDS)

    async def _send_to_store(self, method: str, *arguments: Any) -> Any:
        async with asyncio.timeout(WRITE_SECONDS):
            if self._actor is None:
                self._actor = await self._connect()
            answer = await self._actor(method, *arguments)
        # The same number again if this fails: the actor takes it once, and a row takes no line twice.
        if (answer["store"] if isinstance(answer, dict) else answer) not in ("up", True):
            raise StoreAway("the ledger's store is down")
        if isinstance(answer, dict):
            self._rejected += answer.get("rejected", 0)
            self._missing = answer.get("missing", 0)
        return answer

    async def _patrol(self) -> None:
        recover_at = self.seconds()
        while True:
            try:
                self._journal.mend()
                for entry in list(self._open.values()):
                    entry.progress()
                if self.seconds() >= recover_at:
                    recover_at = self.seconds() + RECOVER_SECONDS
                    for orphan in orphans(self._folder):
                        await self._recover(orphan)
            except Exception:
                log.exception("The ledger's upkeep in this replica failed. Next try in %g s.", PROGRESS_SECONDS)
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _recover(self, orphan: Orphan) -> None:
        """Send what a dead replica has left, then settle as lost what it had open."""
        kept = True
        try:
            for chunk in orphan.chunks(CHUNK):
                await self._send_to_store("write", orphan.owner, 0, chunk, [])
            await self._send_to_store("bury", orphan.owner)
            kept = False
        except Exception as error:
            log.info(
                "The journal of a dead replica can't be sent (%s). It is kept, and tried again.",
                error or type(error).__name__,
            )
        finally:
            orphan.release() if kept else orphan.discard()
        self._recovered += not kept


def _pieces(data: bytes) -> list[bytes]:
    """Return the data in pieces, one at least."""
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)] or [data]

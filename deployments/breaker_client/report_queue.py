"""The reports of one ingress replica on their way to the breaker actor. No Ray.

Equal successes are merged into one item with a count. When the queue is full it forgets a success rather than a
failure. Items leave in numbered batches: a batch that failed is sent again under its number, and the actor takes each
number once. An instant leaves as an age in seconds, because no two processes share a monotonic clock.

It must not know what a report does to a circuit.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable

from actors.breaker.messages import Permit, ReportDetails, ReportItem
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.plan import Target
from deployments.breaker_client.actor_connection import ActorConnection
from deployments.breaker_client.local_breaker import QUIET

log = logging.getLogger(f"ray.serve.{__name__}")

PING_SECONDS = 2.0  # after this long without a report an empty batch is sent: it shows that the actor answers
REPORT_SECONDS = 0.5  # how long a success may wait before it is sent; what moves a circuit never waits
SEND_SECONDS = 5.0  # how long the actor may take for a batch
LONGEST_MESSAGE = 200  # characters of a provider's error
BUFFER = 10_000  # reports kept while the actor is away
_MERGES = (Verdict.OK, Verdict.STARTED, Verdict.FLOWING)


_Key = tuple[Target, int, int, Verdict, bool | None]  # target, incarnation, epoch, verdict, whole


class ReportQueue:
    """Reports that wait, by one replica's name. `actor` is who takes them."""

    def __init__(self, actor: ActorConnection, clock: Callable[[], float], *, most: int = BUFFER):
        self._actor = actor
        self._clock = clock
        self._most = most
        self._replica = secrets.token_hex(8)
        self._number = 0
        self._sent_at = clock()
        self._buffer: deque[ReportItem] = deque()
        self._mergeable: dict[_Key, ReportItem] = {}
        self._urgent = asyncio.Event()

    def __len__(self) -> int:
        """Return how many items wait for the next batch."""
        return len(self._buffer)

    def add(self, target: Target, permit: Permit, verdict: Verdict, details: ReportDetails) -> None:
        """Queue a report, or merge it with an equal one that waits. What may move a circuit is sent at once."""
        key = (target, permit["incarnation"], permit["epoch"], verdict, details.get("whole"))
        plain = verdict in _MERGES and not details.get("lease")
        if plain and (known := self._mergeable.get(key)):
            _merge(known, verdict, details)
            return
        item: ReportItem = {
            "target": target,
            "incarnation": permit["incarnation"],
            "epoch": permit["epoch"],
            "verdict": verdict.value,
            "count": 1,
            **details,
        }
        if plain:
            self._mergeable[key] = item
        else:
            # Successes on either side of a failure must not be counted as one.
            self._mergeable = {k: v for k, v in self._mergeable.items() if k[0] != target}
        self._buffer.append(item)
        if len(self._buffer) > self._most:
            self._drop_one()
        if verdict not in QUIET or details.get("lease"):
            self._urgent.set()

    def merge_success(self, target: Target, permit: Permit, ms: float, *, whole: bool, began: float | None) -> bool:
        """Count one more success with an equal one that waits, as nearly all are. Return False if none waits."""
        known = self._mergeable.get((target, permit["incarnation"], permit["epoch"], Verdict.OK, whole))
        if known is None:
            return False
        _merge(known, Verdict.OK, {"kind": "ok", "ms": ms, "began": began})
        return True

    def _drop_one(self) -> None:
        """Forget the oldest success, or the oldest item if there is no success."""
        quiet = next((i for i in self._buffer if i["verdict"] in QUIET), None)
        self._buffer.remove(quiet) if quiet is not None else self._buffer.popleft()
        self._mergeable.clear()

    async def run(self) -> None:
        """Send batches until cancelled. A batch that fails is kept, and sent again under its number."""
        batch: list[ReportItem] = []
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._urgent.wait()
            self._urgent.clear()
            if not batch and self._buffer:
                batch = self._next_batch()
            if not self._actor.connected or not (batch or self._clock() - self._sent_at >= PING_SECONDS):
                continue
            if not batch:
                self._number += 1
            try:
                self._sent_at = now = self._clock()
                async with asyncio.timeout(SEND_SECONDS):
                    await self._actor.call("report", self._replica, self._number, [_aged(item, now) for item in batch])
                batch = []
            except Exception as error:
                # The same number again: the actor takes it once.
                log.info(
                    "The breaker actor did not take %d reports (%s). They are kept and sent again.",
                    len(batch),
                    type(error).__name__,
                )

    def _next_batch(self) -> list[ReportItem]:
        batch = list(self._buffer)
        self._buffer.clear()
        self._mergeable.clear()
        self._number += 1
        return batch


def details_of(
    outcome: Outcome, ms: float, permit: Permit, *, whole: bool = False, began: float | None = None
) -> ReportDetails:
    """Return what is reported of an attempt that ended so after `ms`; `whole` if it was no stream."""
    details: ReportDetails = {"kind": outcome.kind, "ms": ms, "whole": whole, "began": began}
    if outcome.kind != "ok":
        details["status"] = outcome.status
        details["code"] = outcome.code
        details["message"] = outcome.message[:LONGEST_MESSAGE]
        details["retry_after"] = outcome.retry_after
        details["at"] = time.time()
    return leased(details, permit)


def leased(details: ReportDetails, permit: Permit) -> ReportDetails:
    """Add the lease of a probe."""
    if lease := permit.get("lease"):
        details["lease"] = lease
    return details


def _merge(known: ReportItem, verdict: Verdict, more: ReportDetails) -> None:
    """Add an equal report: the newest start of successes counts, the oldest of streams that flow."""
    known["count"] += 1
    known["ms"] += more["ms"]
    pick = min if verdict is Verdict.FLOWING else max
    times = [x for x in (known.get("began"), more.get("began")) if x is not None]
    known["began"] = pick(times, default=None)
    if "seconds" in more:
        known["seconds"] += more["seconds"]


def _aged(item: ReportItem, now: float) -> ReportItem:
    """Return the item for another process's clock: with `age`, how many seconds ago it began, instead of `began`."""
    sent = item.copy()
    began = sent.pop("began", None)
    if began is not None:
        sent["age"] = now - began
    return sent

"""Fail over: ask the targets of a request in turn, and report how each attempt ended. No Ray.

- Until the first content a failure moves on to the next target, inside one deadline. After it, the stream ends with
  an error frame and without `[DONE]`: a half answer never looks whole.
- The time that is left is shared with the targets that are left (time_share.py).
- Which target is next, and whether it gives a probe's permit, is decided when its turn comes (candidates.py).
- A failure that may be the request's own fault is judged when the request is over (comparison.py).
- A call that is cancelled gives its permit back and says nothing of the provider.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from deployments.config.settings import ImageLimits
from deployments.continuation.rest import may_continue, wants_json
from deployments.errors import BreakwaterError
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.calls import Answer, CallKind, StreamCall, Verb, WholeCall
from deployments.failover.ground import Ground
from deployments.failover.run import Answered, FailoverRun
from deployments.failover.streams.answer import StreamAnswer
from deployments.failover.streams.hold import holds_of
from deployments.failover.streams.kept import Kept, KeptBytes
from deployments.failover.streams.rest import NoPrefill
from deployments.latency.hedging import Hedges
from deployments.openai_api.chat import Request
from deployments.providers.time_limits import TimeLimits
from deployments.routing.image_fetch import ImageFetcher, RequestImages
from deployments.routing.refusals import Refusals
from deployments.rpc.port import CallTransport
from deployments.sessions.affinity import Affinity
from deployments.telemetry.explain import explain
from deployments.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from deployments.breaker_client.client import BreakerClient
    from deployments.routing.model_rows import ModelRows

T = TypeVar("T", bound=Answered)


class Failover:
    """Ask the targets of a request in turn, until one answers."""

    def __init__(
        self,
        rows: "ModelRows",
        limits: Mapping[str, TimeLimits],
        breaker: "BreakerClient",
        transport: CallTransport,
        images: ImageFetcher | None = None,
        affinity: Affinity | None = None,
    ):
        known = Affinity() if affinity is None else affinity
        self._ground = Ground(rows, limits, breaker, Refusals(breaker.now), known, Hedges(), NoPrefill(breaker.now))
        self._transport, self._kept = transport, KeptBytes()
        self._images = images or ImageFetcher(ImageLimits())

    async def complete(
        self, request: Request, deadline: Deadline, record: RequestRecord | None = None, verb: Verb = "chat"
    ) -> Answer:
        """Return a whole answer. Raises NoAnswer, DeadlineExceeded or UnknownModel."""
        record = record or RequestRecord(clock=self._ground.breaker.now)
        try:
            return await self._run(request, deadline, WholeCall(self._transport, verb, deadline), record).answer()
        except BaseException as error:
            _end(record, error)
            raise

    async def stream(self, request: Request, deadline: Deadline, record: RequestRecord | None = None) -> StreamAnswer:
        """Return a stream whose first content has come. Raises as `complete` does, before that."""
        record = record or RequestRecord(clock=self._ground.breaker.now)
        try:
            run = self._run(request, deadline, StreamCall(self._transport, deadline), record)
            answer = await run.answer()
        except BaseException as error:
            _end(record, error)
            raise
        row = self.rows.settings_of(request.model).continuation
        answer.may_begin_anew(run, holds_of(request.body, tools=row.holds_tools, json=row.holds_json))
        continues = row.mode != "off" and record.caller.continues
        if continues and may_continue(request.body, json=row.mode == "all"):
            kept = Kept(row.max_text, self._kept)
            answer.may_go_on(row.attempts, kept, must_be_json=wants_json(request.body))
        if run.may_rescue:
            answer.may_be_rescued()
        return answer

    def _run(self, request: Request, deadline: Deadline, kind: CallKind[T], record: RequestRecord) -> FailoverRun[T]:
        images = RequestImages(self._images, record.caller.account)
        return FailoverRun(self._ground, request, deadline, kind, images, record)

    @property
    def rows(self) -> "ModelRows":
        return self._ground.rows

    def set_limits(self, limits: Mapping[str, TimeLimits]) -> None:
        """Replace the time limits, provider to limits, for the requests that begin from now on."""
        self._ground.limits = limits


def _end(record: RequestRecord, error: BaseException) -> None:
    """Give the record of a request that failed its end."""
    record.finish(_ending_of(error), status=getattr(error, "status", None))
    if record.explain and isinstance(error, BreakwaterError):
        error.explained = explain(record)


def _ending_of(error: BaseException) -> str:
    """Return the outcome of a request that no provider answered."""
    if not isinstance(error, BreakwaterError):
        return "cancelled" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "unclassified"
    last = getattr(error, "last", None)
    return last.kind if last is not None else error.code or "no_answer"

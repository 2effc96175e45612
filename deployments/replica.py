"""One provider behind a Serve handle: flat dicts and bytes in and out, failures as data.

A plain class: only app.py makes a deployment of it. Ray would pickle, wrap and log an exception with its stack; an
outcome as a dict is cheaper and says more.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any

from msgspec import structs

from actors.breaker.outcomes import Guilt, Outcome
from actors.metrics import MeterOfReplica
from actors.process import tune_process, yield_to_others
from deployments.config.application import Config, parse
from deployments.config.providers import ProviderSettings, row_of
from deployments.errors import AttemptFailed, failed
from deployments.providers.base import (
    BrokenOff,
    Call,
    CallMessage,
    Completed,
    End,
    Frames,
    Provider,
    call_of,
    credentials_of,
    stream_within,
)
from deployments.providers.caching.automatic import WithMarks
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.extras import NO_EXTRAS
from deployments.providers.http.timing import Timing, begin_timing
from deployments.providers.joined.whole import WholeAnswers
from deployments.providers.kinds import KINDS, KindSettings, ProviderKind
from deployments.providers.placed import Placed
from deployments.providers.renaming.tool_names import WithToolNames
from deployments.providers.translated import bug_before_sending
from deployments.rpc.admission import Capacity
from deployments.rpc.port import (
    HelloMessage,
    LastFrames,
    ReplyMessage,
    StreamItem,
    outcome_message,
)
from deployments.rpc.server import ConnectionServer, Item, Tell
from deployments.rpc.telling import Pieces, UsageSoFar
from deployments.secrecy import hide_accounts
from deployments.telemetry.metrics import CredentialMetrics
from deployments.telemetry.otlp import tracer_for
from deployments.telemetry.tracer import Tracer

log = logging.getLogger(f"ray.serve.{__name__}")


class ProviderReplica:
    """A deployment's class. `name` is the provider's name in the config, `args` the application's as in the YAML.

    `left_out` is the reason why the provider can't be called, if so. Its deployment has no replicas, unless an
    override gives it some: those idle. `capacity` returns what this replica may take, and `meter` what takes its
    figures, which only a credential that expires has.
    """

    def __init__(
        self,
        name: str,
        args: Mapping[str, Any],
        left_out: str | None = None,
        capacity: Callable[[], Capacity] = Capacity,
        meter: Callable[[], MeterOfReplica] | None = None,
    ):
        tune_process()
        self._name = name
        self._provider: Provider = LeftOut(left_out or "")
        self._traces: Tracer | None = None
        self._extras = NO_EXTRAS
        if left_out is None:
            config = parse(args)
            if KINDS[config.providers[name].kind].in_process:
                yield_to_others()
            self._provider = build_provider(config, name)
            self._extras = config.extras_of(name)
            self._traces = tracer_for(name, config.providers[name].kind)
        self._credentials = credentials_of(self._provider)
        self._metering = self._keep_fresh(self._credentials, meter)
        self._connections = ConnectionServer(self._run, capacity)

    def _keep_fresh(
        self, credentials: Mapping[str, Renewed[Any]], meter: Callable[[], MeterOfReplica] | None
    ) -> "asyncio.Task[None] | None":
        """Renew the credentials, by place, from now on, before the first call; return the task that counts them."""
        if not credentials:
            return None
        try:
            loop = asyncio.get_running_loop()  # Serve has one here
        except RuntimeError:
            return None
        for credential in credentials.values():
            credential.start()
        if meter is None:
            return None
        counted = meter()
        metrics = [CredentialMetrics(counted, self._name, c.report, place) for place, c in credentials.items()]

        def sample() -> None:
            for each in metrics:
                each()

        return loop.create_task(counted.run(sample))

    async def complete(self, call: CallMessage) -> ReplyMessage:
        """Return the reply to a call whose `verb` is `chat` or `embed`."""
        try:
            async with self._connections.admission.admit_handle_call():
                return await self._complete(call)
        except AttemptFailed as error:
            return {"outcome": outcome_message(error.outcome)}

    async def stream(self, call: CallMessage) -> AsyncGenerator[StreamItem, None]:
        """Yield frames as bytes, the first with content, and then the end message.

        Among the frames is the usage so far, for who hears it.
        """
        try:
            async with (
                self._connections.admission.admit_handle_call(),
                contextlib.aclosing(self._stream(call)) as items,
            ):
                async for item in items:
                    yield bytes(item) if isinstance(item, LastFrames) else item
        except AttemptFailed as error:
            yield {"outcome": outcome_message(error.outcome)}

    async def board(self, ingress: str, node: str) -> AsyncGenerator[HelloMessage, None]:
        """Open a connection for many calls of an ingress: see `ConnectionServer.serve`. The name is a wire word."""
        async with contextlib.aclosing(self._connections.serve(ingress, node)) as replies:
            async for hello in replies:
                yield hello

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the calls in flight, under the name that Serve's own policy uses for a replica's requests.

        Without it Serve would scale on handle calls, and most calls arrive over connections.
        """
        return {"running_requests": float(self._connections.admission.total)}

    def _run(self, verb: str, call: CallMessage, tell: Tell) -> AsyncGenerator[Item, None]:
        return self._stream(call) if verb == "stream" else self._complete_as_stream(call, tell)

    async def _complete_as_stream(self, call: CallMessage, tell: Tell) -> AsyncGenerator[Item, None]:
        if not call.get("hears_pieces"):
            yield await self._complete(call)
            return
        pieces = Pieces(tell)
        try:
            yield await self._complete(call, pieces)
        finally:
            pieces.close()

    def _call(self, message: CallMessage) -> Call:
        call = call_of(message)
        return structs.replace(call, extras=self._extras.of(message.get("row"), call.model)) if self._extras else call

    async def _complete(self, call: CallMessage, on_piece: Callable[[], None] | None = None) -> ReplyMessage:
        timing = begin_timing()
        timing.on_piece = on_piece
        spans = None if self._traces is None else self._traces.begin_call(call, timing)
        work = self._provider.embed if call.get("verb") == "embed" else self._provider.complete
        try:
            done = await work(self._call(call))
            if spans is not None:
                spans.succeed(done.usage, done.body)
        except Exception as error:
            outcome = self._outcome_of(error, timing, call.get("place", ""))
            if spans is not None:
                spans.fail(outcome)
            failure: ReplyMessage = {"outcome": outcome_message(outcome), "upstream": timing.as_dict()}
            if isinstance(error, BrokenOff):
                failure |= {"came": error.came, "told": error.told}
            return failure
        finally:
            if spans is not None:
                spans.finish()
        reply: ReplyMessage = {"body": done.body, "usage": done.usage, "upstream": timing.as_dict()}
        if done.native:
            reply["native"] = True
        return reply

    async def _stream(self, call: CallMessage) -> AsyncGenerator[StreamItem, None]:
        timing = begin_timing()
        spans = None if self._traces is None else self._traces.begin_call(call, timing, stream=True)
        items, usage = stream_within(self._provider, self._call(call)), UsageSoFar(call.get("hears_usage", False))
        try:
            async for item in items:
                if isinstance(item, Frames):
                    timing.note_content()
                    if spans is not None:
                        spans.add_frames(item.data)
                    if item.told and (message := usage.take(item.told)) is not None:
                        yield message  # before its frames: a client may leave after the first
                    yield item.data if item.end is None else LastFrames(item.data)
                else:
                    if spans is not None:
                        spans.succeed(item.usage)
                    yield {"usage": item.usage, "tail": item.tail, "upstream": timing.as_dict()}
        except Exception as error:
            outcome = self._outcome_of(error, timing, call.get("place", ""))
            if spans is not None:
                spans.fail(outcome)
            yield {"outcome": outcome_message(outcome), "told": usage.told, "upstream": timing.as_dict()}
        finally:
            await items.aclose()
            if spans is not None:
                spans.finish()

    def __del__(self) -> None:
        """Send the last spans. Serve calls this when it stops the replica."""
        if (traces := getattr(self, "_traces", None)) is not None:
            traces.close()

    def _outcome_of(self, error: Exception, timing: Timing, place: str) -> Outcome:
        if not timing.sent and (bug := bug_before_sending(error)) is not None:
            log.error("%s: a bug of ours kept a request from its provider", self._name, exc_info=error)
            return bug
        if isinstance(error, AttemptFailed):
            if error.outcome.kind == "credential" and timing.sent and place in self._credentials:
                self._credentials[place].doubt()
            # A vendor's message about our own key or account may name them, so it does not leave the replica.
            ours = error.outcome.ending.guilt is Guilt.US
            return replace(error.outcome, message="" if ours else hide_accounts(error.outcome.message))
        log.exception("%s: an attempt ended with an error that no rule classifies", self._name)
        return Outcome("unclassified", message=f"{type(error).__name__}: {error}")


class LeftOut:
    """The stand-in for a provider that can't be called: each call fails as `credential`."""

    def __init__(self, reason: str):
        self._reason = reason

    async def complete(self, call: Call) -> Completed:
        raise failed("credential", f"left out: {self._reason}")

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        raise failed("credential", f"left out: {self._reason}")
        yield

    async def embed(self, call: Call) -> Completed:
        return await self.complete(call)

    async def close(self) -> None:
        pass


def build_provider(config: Config, name: str) -> Provider:
    """Return the adapter of a configured provider."""
    settings, connect = config.providers[name], config.limits_of(name).connect
    kind = KINDS[row_of(settings)]
    if not (places := settings.at_places()):
        return _adapter(kind, settings, connect)
    # All are made now: boto3 takes long enough to hold up the calls that are under way.
    return Placed({place: _at_place(kind, there, connect) for place, there in places.items()})


def _at_place(kind: ProviderKind, settings: ProviderSettings, connect: float) -> Provider:
    why = settings.missing()
    return _adapter(kind, settings, connect) if why is None else LeftOut(why)


def _adapter(kind: ProviderKind, settings: KindSettings, connect: float) -> Provider:
    provider: Provider = WholeAnswers(kind.build(settings, connect), getattr(settings, "whole_as_stream", "auto"))
    if getattr(settings, "cache", None) == "auto":
        # A model that has an ARN has a name of the operator's own here.
        base_model: Callable[[str], str] = getattr(settings, "base_model", str)
        provider = WithMarks(provider, lambda model: kind.marks(base_model(model)))
    return provider if kind.tool_names is None else WithToolNames(provider, kind.tool_names)

"""One provider behind a Serve handle: flat dicts and bytes in and out, failures as data.

A plain class: only app.py makes a deployment of it. An exception that crosses the hop would be
pickled, wrapped and logged with its stack; an outcome as a dict is cheaper and says more.
"""

import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from actors.breaker.outcomes import Guilt, Outcome
from deployments.config.application import Config, parse
from deployments.config.settings import Bedrock, Google, Local, OpenAI
from deployments.errors import AttemptFailed, failed
from deployments.gc_tuning import collect_garbage_seldom
from deployments.providers.base import (
    Call,
    Completed,
    End,
    Frames,
    Provider,
    call_of,
    stream_within,
    within_total,
)
from deployments.providers.timing import timed
from deployments.rpc.admission import Capacity
from deployments.rpc.server import ConnectionServer, Item
from deployments.telemetry.otlp import tracer_for
from deployments.telemetry.tracer import Tracer

log = logging.getLogger(f"ray.serve.{__name__}")


class ProviderReplica:
    """`name` is the provider's name in the config; `args` are the application's, as the YAML has them.

    A provider that is left out has a deployment all the same, and an override may give it replicas:
    they idle.
    """

    def __init__(
        self,
        name: str,
        args: Mapping[str, Any],
        left_out: str | None = None,
        room: Callable[[], Capacity] = Capacity,
    ):
        collect_garbage_seldom()
        self._name = name
        self._provider: Provider = LeftOut(left_out or "")
        self._traces: Tracer | None = None
        if left_out is None:
            config = parse(args)
            self._provider = build_provider(config, name)
            self._traces = tracer_for(name, config.providers[name].kind)
        self._room = room
        self._lanes = ConnectionServer(self._run, room)

    async def complete(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """`{body, usage}`, or `{outcome}` of an attempt that failed. The call's `verb` is `chat` or `embed`.

        With either, and at a stream's end, `upstream`: what was measured here, see timing.Timing.told.
        """
        try:
            async with self._lanes.admission.by_itself():
                return await self._completed(call)
        except AttemptFailed as error:
            return {"outcome": asdict(error.outcome)}

    async def stream(self, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
        """Frames as bytes, the first with content; then `{usage, tail}`, or `{outcome}`."""
        try:
            async with self._lanes.admission.by_itself(), contextlib.aclosing(self._streamed(call)) as items:
                async for item in items:
                    yield item
        except AttemptFailed as error:
            yield {"outcome": asdict(error.outcome)}

    async def board(self, ingress: str, node: str) -> AsyncGenerator[dict[str, Any], None]:
        """Open a lane for many calls of an ingress; see lanes.py."""
        async with contextlib.aclosing(self._lanes.board(ingress, node)) as said:
            async for word in said:
                yield word

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Calls under way, under the name that Serve's own policy takes for a replica's requests.

        Without it Serve would scale on handle calls, and most calls come over lanes.
        """
        return {"running_requests": float(self._lanes.admission.all)}

    def _run(self, verb: str, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        return self._streamed(call) if verb == "stream" else self._answered(call)

    async def _answered(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield await self._completed(call)

    async def _completed(self, call: Mapping[str, Any]) -> dict[str, Any]:
        timing = timed()
        asked = None if self._traces is None else self._traces.begin_call(call, timing)
        work = self._provider.embed if call.get("verb") == "embed" else self._provider.complete
        try:
            done = await within_total(work, call_of(call))
            if asked is not None:
                asked.succeed(done.usage, done.body)
        except Exception as error:
            outcome = self._outcome_of(error)
            if asked is not None:
                asked.fail(outcome)
            return {"outcome": asdict(outcome), "upstream": timing.told()}
        finally:
            if asked is not None:
                asked.finish()
        return {"body": done.body, "usage": done.usage, "upstream": timing.told()}

    async def _streamed(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        timing = timed()
        asked = None if self._traces is None else self._traces.begin_call(call, timing, stream=True)
        items = stream_within(self._provider, call_of(call))
        try:
            async for item in items:
                if isinstance(item, Frames):
                    timing.begins()
                    if asked is not None:
                        asked.add_frames(item.data)
                    yield item.data
                else:
                    if asked is not None:
                        asked.succeed(item.usage)
                    yield {"usage": item.usage, "tail": item.tail, "upstream": timing.told()}
        except Exception as error:
            outcome = self._outcome_of(error)
            if asked is not None:
                asked.fail(outcome)
            yield {"outcome": asdict(outcome), "upstream": timing.told()}
        finally:
            await items.aclose()
            if asked is not None:
                asked.finish()

    def __del__(self) -> None:
        """Serve calls this when the replica is stopped: its last spans go before it."""
        if (traces := getattr(self, "_traces", None)) is not None:
            traces.close()

    def _outcome_of(self, error: Exception) -> Outcome:
        if isinstance(error, AttemptFailed):
            # What a vendor says of our own key or account may name them: it stays here.
            ours = error.outcome.ending.guilt is Guilt.US
            return replace(error.outcome, message="") if ours else error.outcome
        log.exception("%s: an error that no row of the table knows", self._name)
        return Outcome("unclassified", message=f"{type(error).__name__}: {error}")


class LeftOut:
    """Stands in for a provider that can't be called."""

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
    """The adapter of a configured provider. Its SDK is imported here, in the replica that needs it."""
    settings, limits = config.providers[name], config.limits_of(name)
    match settings:
        case Bedrock():
            from deployments.providers.bedrock.adapter import BedrockProvider

            return BedrockProvider(
                region=settings.resolved_region() or "", endpoint_url=settings.endpoint_url, connect=limits.connect
            )
        case OpenAI():
            from deployments.providers.openai.adapter import OpenAIProvider

            return OpenAIProvider(
                api_key=_secret(settings.key_env()) or "none",
                base_url=settings.base_url,
                connect=limits.connect,
                traceparent=settings.traceparent,
            )
        case Google():
            from deployments.providers.google.adapter import GoogleProvider

            return GoogleProvider(
                api_key=_secret(settings.api_key_env),
                base_url=settings.base_url,
                api_version=settings.api_version,
                connect=limits.connect,
            )
        case Local():
            from deployments.providers.local.adapter import LocalProvider

            return LocalProvider(
                model_path=settings.model_path,
                slots=settings.slots,
                context=settings.context,
                threads=settings.threads,
            )


def _secret(variable: str | None) -> str:
    return os.environ.get(variable, "") if variable else ""

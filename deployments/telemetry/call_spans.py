"""A call of a provider as spans: its replica's own, and the upstream call by the conventions for generative AI. Pure.

The conventions are in development still: these are the names of their own repository as of October 2026,
which the SDK's packages no longer carry. What was asked and answered is never told: of a request's fields
only those named here are read, of an answer its id, its finish reasons and its usage.
"""

import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.openai_api.chat import max_tokens_of
from deployments.providers.kinds import KINDS
from deployments.providers.timing import Timing
from deployments.telemetry.request_spans import FINE, why
from deployments.telemetry.spans import Span, SpanEvent, Value, nanoseconds, tidy
from deployments.telemetry.trace_context import SpanContext

log = logging.getLogger(f"ray.serve.{__name__}")

_FIELDS: Mapping[str, str] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "reasoning_effort": "gen_ai.request.reasoning.level",
}
_OUTPUTS = {"text": "text", "json_object": "json", "json_schema": "json"}
_LAST = 3  # so many of a stream's last pieces may hold its finish reason: usage comes after it
_LONGEST_BODY = 1024 * 1024  # a longer one is not read again for its finish reasons
# Unescaped, so it can only be structure: see sse.py.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]+)"')
_ID = re.compile(rb'data: *\{\s*"id"\s*:\s*"([^"\\]{1,200})"')


@dataclass(frozen=True, slots=True)
class Called:
    """One call that is over: all that its spans are made of, and no content."""

    place: SpanContext  # of its replica's span; the upstream call's is below it
    provider: str
    kind: str
    verb: str
    model: str
    began: int  # nanoseconds since the epoch
    over: int  # when the answer had ended
    left: int  # when the replica was done with it
    outcome: Outcome
    peer: tuple[str, int] | None
    connected: float | None  # seconds since it began
    first: float | None
    request: Mapping[str, Any]
    response: Mapping[str, Any]


@dataclass(slots=True)
class CallSpans:
    """A call while it goes on. Exists only where traces are on and this one is recorded."""

    place: SpanContext
    provider: str
    kind: str
    call: Mapping[str, Any]
    stream: bool
    timing: Timing
    put: Callable[[Callable[[], list[Span]]], None]
    outcome: Outcome = field(default_factory=lambda: Outcome("cancelled"))
    usage: Any = None
    body: bytes = b""
    first: bytes = b""
    last: deque[bytes] = field(default_factory=lambda: deque(maxlen=_LAST))
    over: float | None = None

    def flows(self, frames: bytes) -> None:
        self.first = self.first or frames
        self.last.append(frames)

    def answered(self, usage: Any, body: bytes = b"") -> None:
        self.outcome, self.usage, self.body = Outcome("ok", content=True), usage, body
        self.over = time.perf_counter()

    def failed(self, outcome: Outcome) -> None:
        self.outcome, self.over = outcome, time.perf_counter()

    def tell(self) -> None:
        """The replica is done with it. Its spans are made elsewhere, of what may be kept."""
        try:
            self.put(partial(of_call, self._called()))
        except Exception:
            log.exception("a span must not fail a call")

    def _called(self) -> Called:
        left, now = time.time_ns(), time.perf_counter()
        timing = self.timing
        over = left - nanoseconds((now - (self.over or now)) * 1000)
        verb = self.call.get("verb") or "chat"
        return Called(
            self.place,
            self.provider,
            self.kind,
            verb,
            self.call["model"],
            left - nanoseconds((now - timing.began) * 1000),
            over,
            left,
            self.outcome,
            timing.peer,
            timing.connected,
            timing.first,
            _embedding_fields(self.call["body"]) if verb == "embed" else _fields(self.call["body"], self.stream),
            self._response(verb),
        )

    def _response(self, verb: str) -> dict[str, Any]:
        found: dict[str, Any] = {"gen_ai.response.model": self.timing.model, **_usage(self.usage)}
        if verb == "embed":
            return found
        if self.stream and self.timing.first is not None:
            found["gen_ai.response.time_to_first_chunk"] = self.timing.first
        ended = _of_body(self.body) if self.body else self._of_frames()
        return found | ended

    def _of_frames(self) -> dict[str, Any]:
        name = _ID.match(self.first)
        choices = _choices(self.call["body"])
        reasons = [r.decode(errors="replace") for r in _FINISH.findall(b"".join(self.last))]
        if self.first and self.outcome.kind != "ok":
            reasons = ["error"] * choices
        # Of many choices some may have ended earlier: half a list would be a wrong one.
        told = reasons[-1:] if choices == 1 else reasons if len(reasons) == choices else None
        return {
            "gen_ai.response.id": name.group(1).decode() if name else None,
            "gen_ai.response.finish_reasons": told,
        }


def _fields(body: Mapping[str, Any], stream: bool) -> dict[str, Any]:
    wanted, choices = body.get("response_format"), _choices(body)
    return {
        **{attribute: body.get(name) for name, attribute in _FIELDS.items()},
        "gen_ai.request.max_tokens": max_tokens_of(body),
        "gen_ai.request.choice.count": choices if choices > 1 else None,
        "gen_ai.request.stream": stream or None,
        "gen_ai.output.type": _OUTPUTS.get(str(wanted.get("type"))) if isinstance(wanted, Mapping) else None,
    }


def _embedding_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    written = body.get("encoding_format")
    return {
        "gen_ai.embeddings.dimension.count": body.get("dimensions"),
        "gen_ai.request.encoding_formats": None if written is None else [written],
    }


def _choices(body: Mapping[str, Any]) -> int:
    wanted = body.get("n")
    return wanted if isinstance(wanted, int) and 1 <= wanted <= 128 else 1


def _usage(usage: Any) -> dict[str, Any]:
    """A foreign server may say anything."""
    return {
        "gen_ai.usage.input_tokens": _count(usage, "prompt_tokens"),
        "gen_ai.usage.output_tokens": _count(usage, "completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": _count(usage, "prompt_tokens_details", "cached_tokens"),
        "gen_ai.usage.reasoning.output_tokens": _count(usage, "completion_tokens_details", "reasoning_tokens"),
    }


def _count(data: Any, *path: str) -> int | None:
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data if isinstance(data, int) and data >= 0 else None


def _of_body(body: bytes) -> dict[str, Any]:
    """Of our own answer, in OpenAI's words whoever gave it."""
    if len(body) > _LONGEST_BODY:
        return {}
    answer = json.loads(body)
    reasons = [choice.get("finish_reason") for choice in answer.get("choices") or ()]
    return {"gen_ai.response.id": answer.get("id"), "gen_ai.response.finish_reasons": reasons}


def of_call(called: Called) -> list[Span]:
    outcome = called.outcome.kind
    failed = outcome not in FINE
    own = Span(
        f"provider {called.provider}",
        "server",
        called.place,
        called.began,
        called.left,
        tidy(
            {
                "breakwater.provider": called.provider,
                "breakwater.outcome": outcome,
                "error.type": outcome if failed else None,
            }
        ),
        error=why(outcome) if failed else None,
    )
    # What was refused before anything was sent called nobody.
    return [own] if called.peer is None and not KINDS[called.kind].in_process else [own, _upstream(called)]


def _upstream(called: Called) -> Span:
    kind = KINDS[called.kind]
    operation = "embeddings" if called.verb == "embed" else kind.chat_operation
    failed = called.outcome.kind not in FINE
    return Span(
        f"{operation} {called.model}"[:200],
        "internal" if kind.in_process else "client",
        called.place.below(1),
        called.began,
        called.over,
        {**_of_operation(called, operation), **tidy(called.request), **tidy(called.response)},
        tuple(
            SpanEvent(name, called.began + nanoseconds(at * 1000), {})
            for name, at in (("connected", called.connected), ("first token", called.first))
            if at is not None
        ),
        why(called.outcome.kind) if failed else None,
    )


def _of_operation(called: Called, operation: str) -> dict[str, Value]:
    host, port = called.peer or (None, None)
    return tidy(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": KINDS[called.kind].system_at(host),
            "gen_ai.request.model": called.model,
            "server.address": host,
            "server.port": port,
            "error.type": None if called.outcome.kind in FINE else called.outcome.kind,
            "http.response.status_code": called.outcome.status,
        }
    )

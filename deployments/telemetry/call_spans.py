"""The spans of a provider's call: its replica's own, and the upstream call by the conventions for generative AI. Pure.

The conventions are still in development. These are the names of their repository as of October 2026, which the SDK's
packages no longer have. No content is recorded: of a request's fields only those named here are read, of an answer its
id, its finish reasons and its usage.
"""

import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from actors.breaker.outcomes import Outcome
from deployments.openai_api.chat import max_tokens_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.http.timing import Timing
from deployments.providers.kinds import KINDS
from deployments.telemetry.request_spans import NO_ERRORS, error_text
from deployments.telemetry.spans import Span, SpanEvent, Value, clean_attributes, nanoseconds
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
_LAST_FRAMES = 3  # the last frames of a stream, which hold its finish reasons; its usage follows them
_LONGEST_BODY = 1024 * 1024  # bytes; a longer body is not parsed again for its finish reasons
# The quotes are not escaped, so a match is structure and no text: see sse.py.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]+)"')
_ID = re.compile(rb'data: *\{\s*"id"\s*:\s*"([^"\\]{1,200})"')


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call that is over: the data of its spans, without content.

    Attributes:
        context: of the replica's span; the upstream call's span is its child.
        began: nanoseconds since the epoch.
        answered: when the answer had ended, nanoseconds since the epoch.
        ended: when the replica had finished the call, nanoseconds since the epoch.
        peer: host and port of the upstream server; None if nothing was sent.
        connected, first: seconds from the begin to a new connection, and to the first content.
        request, response: span attributes.
    """

    context: SpanContext
    provider: str
    kind: str
    verb: str
    model: str
    began: int
    answered: int
    ended: int
    outcome: Outcome
    peer: tuple[str, int] | None
    connected: float | None
    first: float | None
    request: JsonObject
    response: JsonObject


@dataclass(slots=True)
class CallSpans:
    """The spans of a call that is under way. It exists only if the call is recorded.

    Attributes:
        put: takes the function that makes the spans.
        outcome: "cancelled" until the call has succeeded or failed.
        usage: OpenAI's, as the provider reported it.
        body: a whole answer; empty for a stream.
        first: a stream's first frames.
        last: a stream's last frames.
        answered_at: when the answer had ended, on `time.perf_counter`.
    """

    context: SpanContext
    provider: str
    kind: str
    call: JsonObject
    stream: bool
    timing: Timing
    put: Callable[[Callable[[], list[Span]]], None]
    outcome: Outcome = field(default_factory=lambda: Outcome("cancelled"))
    usage: JsonValue = None
    body: bytes = b""
    first: bytes = b""
    last: deque[bytes] = field(default_factory=lambda: deque(maxlen=_LAST_FRAMES))
    answered_at: float | None = None

    def add_frames(self, frames: bytes) -> None:
        self.first = self.first or frames
        self.last.append(frames)

    def succeed(self, usage: JsonValue, body: bytes = b"") -> None:
        self.outcome, self.usage, self.body = Outcome("ok", content=True), usage, body
        self.answered_at = time.perf_counter()

    def fail(self, outcome: Outcome) -> None:
        self.outcome, self.answered_at = outcome, time.perf_counter()

    def finish(self) -> None:
        """Record the spans, which another thread makes of a summary without content."""
        try:
            self.put(partial(call_spans, self._summary()))
        except Exception:
            log.exception("the spans of a call to %s are lost; the call is not affected", self.provider)

    def _summary(self) -> CallSummary:
        ended, now = time.time_ns(), time.perf_counter()
        timing = self.timing
        answered = ended - nanoseconds((now - (self.answered_at or now)) * 1000)
        verb = self.call.get("verb") or "chat"
        return CallSummary(
            self.context,
            self.provider,
            self.kind,
            verb,
            self.call["model"],
            ended - nanoseconds((now - timing.began) * 1000),
            answered,
            ended,
            self.outcome,
            timing.peer,
            timing.connected,
            timing.first,
            _embedding_attributes(self.call["body"])
            if verb == "embed"
            else _request_attributes(self.call["body"], self.stream),
            self._response_attributes(verb),
        )

    def _response_attributes(self, verb: str) -> JsonDict:
        found: JsonDict = {"gen_ai.response.model": self.timing.model, **_usage_attributes(self.usage)}
        if verb == "embed":
            return found
        if self.stream and self.timing.first is not None:
            found["gen_ai.response.time_to_first_chunk"] = self.timing.first
        return found | (_body_attributes(self.body) if self.body else self._frame_attributes())

    def _frame_attributes(self) -> JsonDict:
        answer_id = _ID.match(self.first)
        choices = _choices(self.call["body"])
        reasons = [r.decode(errors="replace") for r in _FINISH.findall(b"".join(self.last))]
        if self.first and self.outcome.kind != "ok":
            reasons = ["error"] * choices
        # The reason of a choice that ended earlier may be missing here, and an incomplete list would be wrong.
        known = reasons[-1:] if choices == 1 else reasons if len(reasons) == choices else None
        return {
            "gen_ai.response.id": answer_id.group(1).decode() if answer_id else None,
            "gen_ai.response.finish_reasons": known,
        }


def _request_attributes(body: JsonObject, stream: bool) -> JsonDict:
    response_format, choices = body.get("response_format"), _choices(body)
    return {
        **{attribute: body.get(name) for name, attribute in _FIELDS.items()},
        "gen_ai.request.max_tokens": max_tokens_of(body),
        "gen_ai.request.choice.count": choices if choices > 1 else None,
        "gen_ai.request.stream": stream or None,
        "gen_ai.output.type": _OUTPUTS.get(str(response_format.get("type")))
        if isinstance(response_format, Mapping)
        else None,
    }


def _embedding_attributes(body: JsonObject) -> JsonDict:
    encoding = body.get("encoding_format")
    return {
        "gen_ai.embeddings.dimension.count": body.get("dimensions"),
        "gen_ai.request.encoding_formats": None if encoding is None else [encoding],
    }


def _choices(body: JsonObject) -> int:
    n = body.get("n")
    return n if isinstance(n, int) and 1 <= n <= 128 else 1


def _usage_attributes(usage: JsonValue) -> JsonDict:
    # A foreign server may send anything in place of a count.
    return {
        "gen_ai.usage.input_tokens": _count(usage, "prompt_tokens"),
        "gen_ai.usage.output_tokens": _count(usage, "completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": _count(usage, "prompt_tokens_details", "cached_tokens"),
        "gen_ai.usage.reasoning.output_tokens": _count(usage, "completion_tokens_details", "reasoning_tokens"),
    }


def _count(data: JsonValue, *path: str) -> int | None:
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data if isinstance(data, int) and data >= 0 else None


def _body_attributes(body: bytes) -> JsonDict:
    # The body is our own answer: it has OpenAI's format whatever the provider.
    if len(body) > _LONGEST_BODY:
        return {}
    answer = json.loads(body)
    reasons = [choice.get("finish_reason") for choice in answer.get("choices") or ()]
    return {"gen_ai.response.id": answer.get("id"), "gen_ai.response.finish_reasons": reasons}


def call_spans(call: CallSummary) -> list[Span]:
    """Return the spans of a call: the replica's, and the upstream call's if there was one."""
    outcome = call.outcome.kind
    failed = outcome not in NO_ERRORS
    own = Span(
        f"provider {call.provider}",
        "server",
        call.context,
        call.began,
        call.ended,
        clean_attributes(
            {
                "breakwater.provider": call.provider,
                "breakwater.outcome": outcome,
                "error.type": outcome if failed else None,
            }
        ),
        error=error_text(outcome) if failed else None,
    )
    # A call that was refused before anything was sent has no upstream call.
    return [own] if call.peer is None and not KINDS[call.kind].in_process else [own, _upstream_span(call)]


def _upstream_span(call: CallSummary) -> Span:
    kind = KINDS[call.kind]
    operation = "embeddings" if call.verb == "embed" else kind.chat_operation
    failed = call.outcome.kind not in NO_ERRORS
    return Span(
        f"{operation} {call.model}"[:200],
        "internal" if kind.in_process else "client",
        call.context.child(1),
        call.began,
        call.answered,
        {**_operation_attributes(call, operation), **clean_attributes(call.request), **clean_attributes(call.response)},
        tuple(
            SpanEvent(name, call.began + nanoseconds(at * 1000), {})
            for name, at in (("connected", call.connected), ("first token", call.first))
            if at is not None
        ),
        error_text(call.outcome.kind) if failed else None,
    )


def _operation_attributes(call: CallSummary, operation: str) -> dict[str, Value]:
    host, port = call.peer or (None, None)
    return clean_attributes(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": KINDS[call.kind].system_at(host),
            "gen_ai.request.model": call.model,
            "server.address": host,
            "server.port": port,
            "error.type": None if call.outcome.kind in NO_ERRORS else call.outcome.kind,
            "http.response.status_code": call.outcome.status,
        }
    )

"""What requests and calls say as spans: who is under whom, what stands in them, and what never does."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer, UnknownModel, failed
from deployments.openai_api.chat import Head, check_request, chunk, completion, dump, usage_of
from deployments.providers.base import Call, Completed, End, Frames, call_dict
from deployments.providers.http.timing import current_timing, note_model
from deployments.providers.time_limits import TimeLimits
from deployments.replica import ProviderReplica
from deployments.service.arguments import CallOptions
from deployments.telemetry.otlp import readable
from deployments.telemetry.spans import LONGEST_ATTRIBUTE, Span
from deployments.telemetry.trace_context import Sampler, parse_context
from deployments.telemetry.tracer import SpanFactory, Tracer
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_http_api import client
from tests.unit.world import REQUEST, World, world

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=t61rcWkgMzE"}
ME = Caller("http", "acme", "agent", "a-key", "my-own-id", trace=HEADERS)
SECRET = "nobody-may-read-this"


class Book:
    """Where spans go in these tests."""

    def __init__(self, sampler: Sampler | None = None, **provider: str):
        self.factories: list[SpanFactory] = []
        self.traces = Tracer(sampler or Sampler(), self.factories.append, **provider)

    @property
    def spans(self) -> list[Span]:
        return [span for factory in self.factories for span in factory()]


def attributes(span: Span, *names: str) -> list[Any]:
    return [span.attributes.get(name) for name in names]


async def asked(w: World, caller: Caller = ME, *, stream: bool = False, model: str = "default") -> Any:
    checked = check_request({**REQUEST, "stream": stream, "model": model})
    trail = w.service.begin(caller, checked)
    if not stream:
        return await w.service.failover.complete(checked, w.service.deadline(), trail)
    return await w.service.failover.stream(checked, w.service.deadline(), trail)


def in_traced(test: Callable[[World, Book], Any], **settings: Any) -> None:
    async def main() -> None:
        book = Book(**settings)
        async with world(traces=book.traces) as w:
            await test(w, book)

    run_virtually(main())


def test_a_failover_is_one_trace_with_an_attempt_for_each_call() -> None:
    async def test(w: World, book: Book) -> None:
        w.provider("aws").ends, w.provider("aws").seconds = [Outcome("throttled", status=429, message=SECRET)], 0.2
        w.provider("openai").seconds = 0.3
        await asked(w)
        root, first, second = book.spans
        assert [s.name for s in book.spans] == ["POST /v1/chat/completions", "attempt aws", "attempt openai"]
        assert [s.kind for s in book.spans] == ["server", "client", "client"]
        assert {f"{s.context.trace_id:032x}" for s in book.spans} == {TRACE}
        assert (f"{root.context.parent_id:016x}", root.context.remote, root.context.state) == (
            SPAN,
            True,
            "congo=t61rcWkgMzE",
        )
        assert first.context.parent_id == second.context.parent_id == root.context.span_id
        told = [parse_context(headers) for headers in w.hop.traces]
        assert [context and context.span_id for context in told] == [first.context.span_id, second.context.span_id]
        assert [context and context.state for context in told] == ["congo=t61rcWkgMzE"] * 2
        assert first.error == "429, or asked to wait"
        assert attributes(first, "breakwater.attempt", "breakwater.outcome", "error.type") == [
            1,
            "throttled",
            "throttled",
        ]
        assert attributes(first, "breakwater.target", "http.response.status_code") == ["aws/haiku", 429]
        assert (root.error, second.error) == (None, None)
        assert attributes(second, "breakwater.attempt", "breakwater.verdict", "breakwater.probe") == [2, "ok", False]
        assert [s.ended - s.began for s in book.spans] == [500_000_000, 200_000_000, 300_000_000]
        assert second.began - root.began == 200_000_000
        assert attributes(root, "breakwater.attempts", "breakwater.target", "breakwater.outcome") == [
            2,
            "openai/gpt",
            "ok",
        ]
        assert attributes(root, "breakwater.tenant", "breakwater.agent") == ["acme", "agent"]
        assert attributes(root, "breakwater.row", "breakwater.x_request_id") == ["default", "my-own-id"]
        assert attributes(root, "http.request.method", "http.route") == ["POST", "/v1/chat/completions"]
        assert root.attributes["http.response.status_code"] == 200

    in_traced(test)


def test_who_was_skipped_is_an_event_of_the_request() -> None:
    async def test(w: World, book: Book) -> None:
        w.provider("aws").ends = [SERVER_ERROR]
        for _ in range(3):
            await asked(w)
        await asyncio.sleep(5)
        book.factories.clear()
        await asked(w)
        root, served = book.spans
        [skipped] = root.events
        assert skipped.name == "skipped"
        assert skipped.attributes["breakwater.target"] == "aws/haiku"
        assert (skipped.attributes["breakwater.why"], skipped.attributes["breakwater.epoch"]) == ("open", 1)
        assert served.name == "attempt openai"

    in_traced(test)


def test_a_stream_says_when_its_first_token_came_and_a_reader_who_left_is_no_error() -> None:
    async def test(w: World, book: Book) -> None:
        w.provider("aws").seconds, w.provider("aws").pace = 0.25, 0.5
        answer = await asked(w, stream=True)
        async for _ in answer.frames():
            break
        await answer.close()
        root, attempt = book.spans
        [first] = root.events
        assert (first.name, first.at - root.began) == ("first token", 250_000_000)
        assert (root.error, attempt.error) == (None, None)
        assert root.attributes["breakwater.outcome"] == attempt.attributes["breakwater.outcome"] == "cancelled"
        assert (root.attributes["breakwater.stream"], root.attributes["http.response.status_code"]) == (True, 200)

    in_traced(test)


def test_a_request_that_failed_has_the_status_that_its_caller_got() -> None:
    async def test(w: World, book: Book) -> None:
        for script in w.hop.providers.values():
            script.ends = [SERVER_ERROR]
        with pytest.raises(NoAnswer):
            await asked(w)
        root = book.spans[0]
        assert root.error
        assert attributes(root, "http.response.status_code", "error.type") == [503, "no_provider_available"]
        book.factories.clear()
        with pytest.raises(UnknownModel):
            await asked(w, model="no-such-row")
        [root] = book.spans
        assert root.error is None, "a 4xx is an answer"
        assert attributes(root, "http.response.status_code", "breakwater.outcome") == [404, "model_not_found"]

    in_traced(test)


def test_a_stream_that_broke_off_is_an_error_under_status_200() -> None:
    async def test(w: World, book: Book) -> None:
        w.provider("aws").ends, w.provider("aws").after = [Outcome("broken", content=True)], 1
        answer = await asked(w, stream=True)
        async for _ in answer.frames():
            pass
        await answer.close()
        root, attempt = book.spans
        assert attributes(root, "http.response.status_code", "error.type") == [200, "broken"]
        assert root.error == attempt.error == "the connection broke"

    in_traced(test)


def test_a_request_by_handle_goes_on_with_its_callers_trace_too() -> None:
    async def test(w: World, book: Book) -> None:
        await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", trace=HEADERS)))
        await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", trace={"traceparent": 5})))
        mine, _, own, _ = book.spans
        assert (mine.name, f"{mine.context.parent_id:016x}") == ("handle chat", SPAN)
        assert own.context.parent_id is None
        assert "http.route" not in mine.attributes

    in_traced(test)


def test_over_http_the_clients_headers_are_heard_and_nothing_else_of_them_is_kept() -> None:
    async def main() -> None:
        book = Book()
        async with client(traces=book.traces) as (http, _):
            headers = [("traceparent", HEADERS["traceparent"]), ("tracestate", "a=1"), ("tracestate", "b=2")]
            await http.post("/v1/chat/completions", json=REQUEST, headers=[*headers, ("x-other", SECRET)])
            await http.post("/v1/embeddings", json={"model": "none", "input": "x"})
            mine, _, embed = book.spans
            assert (f"{mine.context.trace_id:032x}", f"{mine.context.parent_id:016x}") == (TRACE, SPAN)
            assert mine.context.state == "a=1,b=2"
            assert (embed.name, embed.attributes["breakwater.outcome"]) == ("POST /v1/embeddings", "model_not_found")
            assert SECRET not in repr(book.factories)

    run_virtually(main())


def test_a_trace_that_is_not_sampled_is_told_on_and_not_recorded() -> None:
    async def test(w: World, book: Book) -> None:
        await asked(w, Caller("http"))
        assert book.factories == []
        [told] = w.hop.traces
        assert told["traceparent"].endswith("-00")

    in_traced(test, sampler=Sampler(0.0))


def test_without_traces_no_call_is_told_of_one_and_nothing_is_kept() -> None:
    async def main() -> None:
        async with world() as w:
            answer = await asked(w)
            assert w.hop.traces == [None]
            assert answer.record.trace is None
            assert answer.record.summary.trace is None

    run_virtually(main())


# A provider's replica.

HEAD = Head("chatcmpl-1", 1, "row")
USAGE = usage_of(812, 233, cached=512, reasoning=100)


class Provider:
    """Says what a test wants it to. `peer`: does it turn to somebody?"""

    def __init__(self, error: Exception | None = None, *, peer: bool = True, hang: bool = False):
        self.error, self.peer, self.hang = error, peer, hang

    async def complete(self, call: Call) -> Completed:
        await self._ask()
        return Completed(dump(completion(HEAD, SECRET, "length", USAGE)), USAGE)

    async def embed(self, call: Call) -> Completed:
        await self._ask()
        return Completed(b"not looked at", {"prompt_tokens": 7, "total_tokens": 7})

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        yield Frames(chunk(HEAD, {"role": "assistant"}), content=False)
        await self._ask(late=True)
        yield Frames(chunk(HEAD, {"content": f'{SECRET} "finish_reason":"fake"'}), content=True)
        if self.error is not None:
            raise self.error
        yield Frames(chunk(HEAD, {}, "tool_calls"), content=True)
        yield Frames(chunk(HEAD, {}), content=False)
        yield End(USAGE)

    async def _ask(self, *, late: bool = False) -> None:
        timing = current_timing()
        assert timing is not None
        if self.peer:
            timing.peer = "api.example.com", 443
            timing.note_connected()
        note_model("gpt-5.4-mini-2026-01-01")
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None and not late:
            raise self.error

    async def close(self) -> None:
        pass


def called(
    provider: Provider,
    use: Callable[[ProviderReplica, Mapping[str, Any]], Any],
    body: Mapping[str, Any] | None = None,
    *,
    kind: str = "openai",
    **more: Any,
) -> tuple[list[Span], Book]:
    book = Book(name="my-provider", kind=kind)
    replica = ProviderReplica("my-provider", {}, left_out="test")
    replica._provider, replica._traces = provider, book.traces
    given = {"messages": [{"role": "user", "content": SECRET}], **(body or {})}
    call = call_dict(given, "gpt-5.4-mini", "row", TimeLimits()) | {"trace": HEADERS} | more
    run_virtually(use(replica, call))
    return book.spans, book


async def whole(replica: ProviderReplica, call: Mapping[str, Any]) -> None:
    await replica.complete(call)


async def streamed(replica: ProviderReplica, call: Mapping[str, Any]) -> None:
    async for _ in replica.stream(call):
        pass


async def left(replica: ProviderReplica, call: Mapping[str, Any]) -> None:
    stream = replica.stream(call)
    await anext(stream)
    await stream.aclose()


async def cancelled(replica: ProviderReplica, call: Mapping[str, Any]) -> None:
    task = asyncio.create_task(replica.complete(call))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])


def test_a_call_is_a_span_of_its_replica_and_one_of_the_upstream_call_beneath() -> None:
    wishes = {
        "temperature": 0.5,
        "max_completion_tokens": 300,
        "seed": 7,
        "n": 1,
        "top_p": 0.9,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": SECRET}},
        "stop": [SECRET],
        "user": SECRET,
        "tools": [{"type": "function", "function": {"name": SECRET}}],
        "metadata": {"x": SECRET},
    }
    (own, upstream), book = called(Provider(), whole, wishes)
    assert (own.name, own.kind, upstream.name, upstream.kind) == (
        "provider my-provider",
        "server",
        "chat gpt-5.4-mini",
        "client",
    )
    assert (f"{own.context.trace_id:032x}", f"{own.context.parent_id:016x}", own.context.remote) == (TRACE, SPAN, True)
    assert (upstream.context.parent_id, upstream.context.remote) == (own.context.span_id, False)
    assert dict(upstream.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.4-mini",
        "server.address": "api.example.com",
        "server.port": 443,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 300,
        "gen_ai.request.seed": 7,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.model": "gpt-5.4-mini-2026-01-01",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 812,
        "gen_ai.usage.output_tokens": 233,
        "gen_ai.usage.cache_read.input_tokens": 512,
        "gen_ai.usage.reasoning.output_tokens": 100,
    }
    assert [event.name for event in upstream.events] == ["connected"]
    assert own.began <= upstream.began <= upstream.ended <= own.ended
    assert SECRET not in repr(book.spans)
    assert SECRET not in repr(book.factories), "content must not even wait to be written"


def test_a_stream_has_its_first_token_and_why_it_ended() -> None:
    (own, upstream), book = called(Provider(), streamed)
    assert upstream.attributes["gen_ai.request.stream"] is True
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert upstream.attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert upstream.attributes["gen_ai.usage.output_tokens"] == 233
    assert isinstance(upstream.attributes["gen_ai.response.time_to_first_chunk"], float)
    assert [event.name for event in upstream.events] == ["connected", "first token"]
    assert (own.error, upstream.error) == (None, None)
    assert SECRET not in repr(book.factories)


def test_a_stream_that_was_left_is_cancelled_and_one_that_broke_is_an_error() -> None:
    (own, upstream), _ = called(Provider(), left)
    assert (own.attributes["breakwater.outcome"], own.error, upstream.error) == ("cancelled", None, None)
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ("error",)
    (own, upstream), book = called(Provider(failed("broken", SECRET)), streamed)
    assert (own.error, upstream.attributes["error.type"]) == ("the connection broke", "broken")
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert SECRET not in repr(book.spans)


def test_a_whole_call_that_is_cancelled_is_told() -> None:
    (own, upstream), _ = called(Provider(hang=True), cancelled)
    assert own.attributes["breakwater.outcome"] == "cancelled"
    assert "gen_ai.response.finish_reasons" not in upstream.attributes


def test_a_failed_call_says_how_and_never_in_the_providers_words() -> None:
    (own, upstream), book = called(Provider(failed("throttled", SECRET, status=429, code=SECRET)), whole)
    assert own.error == upstream.error == "429, or asked to wait"
    assert attributes(upstream, "error.type", "http.response.status_code") == ["throttled", 429]
    assert SECRET not in repr(book.spans)


def test_what_was_refused_before_anything_was_sent_called_nobody() -> None:
    [own], _ = called(Provider(failed("unsupported", "x"), peer=False), whole)
    assert own.attributes["error.type"] == "unsupported"


@pytest.mark.parametrize(
    ("kind", "operation", "provider", "span_kind"),
    [
        ("openai", "chat", "openai", "client"),
        ("bedrock", "chat", "aws.bedrock", "client"),
        ("google", "generate_content", "gcp.gemini", "client"),
        ("local", "chat", "llama_cpp", "internal"),
    ],
)
def test_each_kind_has_the_names_of_the_conventions(kind: str, operation: str, provider: str, span_kind: str) -> None:
    (_, upstream), _ = called(Provider(peer=kind != "local"), whole, kind=kind)
    assert (upstream.name, upstream.kind) == (f"{operation} gpt-5.4-mini", span_kind)
    assert attributes(upstream, "gen_ai.operation.name", "gen_ai.provider.name") == [operation, provider]
    assert ("server.address" in upstream.attributes) is (kind != "local")


def test_an_embedding_has_its_dimensions() -> None:
    body = {"input": SECRET, "dimensions": 512, "encoding_format": "base64"}
    (_, upstream), book = called(Provider(), whole, body, verb="embed", kind="google")
    assert upstream.name == "embeddings gpt-5.4-mini"
    assert upstream.attributes["gen_ai.embeddings.dimension.count"] == 512
    assert upstream.attributes["gen_ai.request.encoding_formats"] == ("base64",)
    assert upstream.attributes["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.output_tokens" not in upstream.attributes
    assert SECRET not in repr(book.factories)


def test_a_call_without_a_trace_or_of_one_that_is_not_recorded_has_no_spans() -> None:
    assert called(Provider(), whole, trace=None)[0] == []
    seen = []

    class Noting(Provider):
        async def _ask(self, *, late: bool = False) -> None:
            seen.append(current_timing().trace)  # type: ignore[union-attr]

    unsampled = {"traceparent": HEADERS["traceparent"][:-2] + "00"}
    assert called(Noting(), whole, trace=unsampled)[0] == []
    assert seen == [unsampled]


def test_what_a_foreign_client_or_server_makes_up_harms_no_span() -> None:
    body = {"seed": 2**70, "reasoning_effort": "\ud800" * 9, "top_k": [1], "temperature": float("inf"), "n": True}

    class Odd(Provider):
        async def complete(self, call: Call) -> Completed:
            await self._ask()
            note_model("x" * 10_000)
            usage: Any = {"prompt_tokens": -1, "completion_tokens": "many", "prompt_tokens_details": 3}
            return Completed(dump({"choices": [{"finish_reason": None}], "id": 7}), usage)

    (_, upstream), _ = called(Odd(), whole, body)
    assert upstream.attributes["gen_ai.request.reasoning.level"] == "?" * 9
    assert len(str(upstream.attributes["gen_ai.response.model"])) == LONGEST_ATTRIBUTE
    for name in ("gen_ai.request.seed", "gen_ai.request.top_k", "gen_ai.usage.input_tokens"):
        assert name not in upstream.attributes


def test_a_bug_of_ours_in_a_span_fails_no_call() -> None:
    answers = []

    class Broken(Provider):
        async def complete(self, call: Call) -> Completed:
            return Completed(b"no JSON at all", None)

    async def kept(replica: ProviderReplica, call: Mapping[str, Any]) -> None:
        answers.append(await replica.complete(call))

    assert called(Broken(), kept)[0] == []
    assert answers[0]["body"] == b"no JSON at all"


def test_the_sdk_can_write_every_span_of_ours() -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from tests.fakes.otlp import spans_in

    spans, _ = called(Provider(), streamed, {"temperature": float("inf"), "seed": 2**70})
    resource, scope = Resource({"service.name": "x"}), InstrumentationScope("y")
    data = encode_spans([readable(span, resource, scope) for span in spans]).SerializeToString()
    own, upstream = spans_in(data)
    assert (own.name, own.kind, own.trace_id, own.parent_id) == ("provider my-provider", "server", TRACE, SPAN)
    assert upstream.parent_id == own.span_id
    assert own.state == "congo=t61rcWkgMzE"
    assert upstream.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]

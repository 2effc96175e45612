"""The adapter of a deployment of the same cluster: its contract, with and without a fake of OpenAI's wire behind it.

Real handles are in tests/cluster/test_serve_handles.py.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from msgspec import structs

from deployments.providers.base import Provider, complete_within, stream_within
from deployments.providers.serve.adapter import ServeProvider
from deployments.providers.serve.port import About
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.relay import Relay, RelayPort
from tests.fakes.server import Behaviour, FakeServer, status
from tests.providers.conftest import LIMITS, Bench

WORDS = ["Paris", " is", " nice"]
FRAMES = OpenAIWire().frames(WORDS)
CHUNKS = [json.loads(frame[6:]) for frame in FRAMES[:-1]]
WHOLE = json.loads(OpenAIWire().whole(WORDS))


class Says:
    """A deployment whose method returns or yields this."""

    def __init__(self, *items: Any):
        self.items = items

    async def chat(self, request: dict[str, Any]) -> Any:
        if request["stream"]:
            return self._yield()
        return self.items[0]

    async def _yield(self) -> AsyncGenerator[Any, None]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


def bench_of(relay: Any, **settings: str) -> Bench:
    return Bench("serve", lambda: ServeProvider(RelayPort(relay), **settings))


@pytest.fixture
def relayed() -> Iterator[Bench]:
    fake = FakeServer(OpenAIWire())
    bench = bench_of(Relay(fake.url), embeddings_method="embeddings")
    bench.fake = fake
    yield bench
    fake.stop()


def text_of(bench: Bench) -> str:
    events = b"".join(bench.frames).split(b"\n\n")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events if event]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


def test_a_whole_answer_and_a_stream_pass_with_their_usage_under_the_rows_name(relayed: Bench) -> None:
    done = relayed.complete(temperature=0.5, tools=None)
    answer = json.loads(done.body)
    assert (answer["model"], answer["choices"][0]["finish_reason"]) == ("row", "stop")
    assert done.usage is not None
    assert done.usage["total_tokens"] == 12
    end = relayed.stream()
    assert text_of(relayed).startswith("Paris")
    assert end.usage is not None
    assert relayed.fake is not None
    whole, streamed = (received.body for received in relayed.fake.received)
    assert whole == {
        "model": "upstream-model",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0.5,
        "stream": False,
    }
    assert streamed["stream_options"] == {"include_usage": True}


ITEMS: dict[str, Callable[[], list[Any]]] = {
    "dicts": lambda: CHUNKS,
    "bytes": lambda: FRAMES,
    "texts": lambda: [frame.decode() for frame in FRAMES],
    "lists of texts, as Serve LLM's": lambda: [[f.decode() for f in FRAMES[:2]], [f.decode() for f in FRAMES[2:]]],
    "lists of dicts": lambda: [CHUNKS[:3], CHUNKS[3:]],
    "one piece of all bytes": lambda: [b"".join(FRAMES)],
    "pieces that cut events": lambda: [b"".join(FRAMES)[at : at + 7] for at in range(0, len(b"".join(FRAMES)), 7)],
    "dicts, and a text at the end": lambda: [*CHUNKS, "data: [DONE]\n\n"],
}


@pytest.mark.parametrize("form", ITEMS)
def test_a_stream_comes_in_any_form_of_the_contract(form: str) -> None:
    bench = bench_of(Says(*ITEMS[form]()))
    end = bench.stream(stream_options={"include_usage": True})
    assert text_of(bench) == "".join(WORDS)
    assert end.usage is not None
    last = (b"".join(bench.frames) + end.tail).split(b"\n\n")[-2]
    assert json.loads(last.removeprefix(b"data: "))["usage"]["total_tokens"] == end.usage["total_tokens"]


def test_a_stream_that_ends_without_a_finish_reason_is_broken() -> None:
    for cut in (CHUNKS[:3], FRAMES[:3], []):
        assert bench_of(Says(*cut)).failure(stream=True).kind == "broken"


def test_an_answer_without_a_finish_reason_is_malformed() -> None:
    assert bench_of(Says({**WHOLE, "choices": []})).failure().kind == "malformed"


@pytest.mark.parametrize("answer", ["text", b"{}", None, 7, ["a list"], {"x": object()}, {1: {2}}])
def test_what_is_no_dict_of_json_is_malformed(answer: Any) -> None:
    assert bench_of(Says(answer)).failure().kind == "malformed"


@pytest.mark.parametrize("item", [None, 7, object(), [3.0], {"x": object()}])
def test_an_item_that_is_no_part_of_a_stream_is_malformed_wherever_it_comes(item: Any) -> None:
    for before in ([], CHUNKS[:3]):
        assert bench_of(Says(*before, item)).failure(stream=True).kind == "malformed"


VLLM = {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": None}
ERRORS = [
    ({"error": {"message": "slow down", "type": "rate_limit_error", "code": None}}, "throttled", 429),
    ({"error": {"message": "slow down", "code": 429}}, "throttled", 429),
    ({"error": {"message": "it broke", "type": "InternalServerError", "code": 500}}, "server_error", 500),
    ({"error": "it broke"}, "server_error", None),
    ({"error": {"message": "no provider", "type": "server_error", "code": None}, "status": 503}, "overloaded", 503),
    ({"error": {"message": "bad", "type": "BadRequestError", "param": "tools", "code": 400}}, "rejected", 400),
    ({**VLLM, "code": 404}, "model_missing", 404),
    (
        {"error": {"message": "This model's maximum context length is 40 tokens.", "type": "x", "code": 400}},
        "too_long",
        400,
    ),
]


@pytest.mark.parametrize(("error", "kind", "code"), ERRORS)
@pytest.mark.parametrize("form", ["whole", "first item", "first of a list", "event"])
def test_an_error_as_a_dict_is_read_as_a_servers(error: dict[str, Any], kind: str, code: int, form: str) -> None:
    if form == "whole":
        outcome = bench_of(Says(error)).failure()
    else:
        item = {"first item": error, "first of a list": [error], "event": f"data: {json.dumps(error)}\n\n"}[form]
        outcome = bench_of(Says(item)).failure(stream=True)
    if form == "event" and "status" in error:
        kind, code = "server_error", None  # an event of OpenAI's stream has no status beside its error
    assert (outcome.kind, outcome.status) == (kind, code)


def test_an_error_of_breakwaters_own_python_api_has_its_status_and_its_delay() -> None:
    told = {"error": {"message": "busy", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}
    outcome = bench_of(Says({**told, "status": 429, "retry_after": 2.5})).failure()
    assert (outcome.kind, outcome.status, outcome.retry_after) == ("throttled", 429, 2.5)


class WithStatus(Exception):
    def __init__(self, status_code: int, detail: str):
        super().__init__(status_code, detail)
        self.status_code, self.detail = status_code, detail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no such thing"), "server_error"),
        (WithStatus(429, "later"), "throttled"),
        (WithStatus(422, "bad field"), "rejected"),
        (WithStatus(401, "who are you?"), "credential"),
    ],
)
def test_an_exception_is_read_by_its_status_or_is_an_error_of_the_server(error: Exception, kind: str) -> None:
    class Raises:
        async def chat(self, request: dict[str, Any]) -> Any:
            raise error

    assert bench_of(Raises()).failure().kind == kind
    for before in ([], CHUNKS[:3]):
        assert bench_of(Says(*before, error)).failure(stream=True).kind == kind


def test_what_a_fake_server_does_to_its_clients_a_deployment_does_to_us(relayed: Bench) -> None:
    fake = relayed.fake
    assert fake is not None
    for behaviour, kind in (
        (status(429, retry_after="3"), "throttled"),
        (status(500), "server_error"),
        (status(503), "overloaded"),
        (Behaviour("reset"), "server_error"),
        (Behaviour("malformed", after=2), "malformed"),
        (Behaviour("no_end"), "broken"),
        (Behaviour("in_band", after=2), "server_error"),
    ):
        fake.behave = behaviour
        assert relayed.failure(stream=True).kind == kind, behaviour
    fake.behave = status(429, retry_after="3")
    assert relayed.failure().retry_after == 3


def test_a_silent_deployment_is_left_after_our_own_limits_and_its_call_is_closed(relayed: Bench) -> None:
    fake = relayed.fake
    assert fake is not None
    relayed.limits = structs.replace(LIMITS, first_token=0.2, idle=0.2, total=0.2)
    fake.behave = Behaviour("stall", after=3)
    assert relayed.failure(stream=True).kind == "idle"
    fake.behave = Behaviour("hang")
    assert relayed.failure(stream=True).kind == "first_token"
    assert relayed.failure().kind == "timeout"
    assert fake.received[-1].gone.wait(5)


def test_a_stream_whose_reader_leaves_is_closed() -> None:
    class Endless(Says):
        async def _yield(self) -> AsyncGenerator[Any, None]:
            while True:
                for chunk in CHUNKS[:3]:
                    yield chunk
                    await asyncio.sleep(0)

    made = []

    class Port(RelayPort):
        async def stream(self, *asked: Any) -> Any:
            made.append(await super().stream(*asked))
            return made[-1]

    bench = Bench("serve", lambda: ServeProvider(Port(Endless())))

    async def leave(provider: Provider) -> None:
        items = stream_within(provider, bench.call(stream=True))
        await anext(items)
        await items.aclose()

    bench.run(leave)
    assert [items.closed for items in made] == [True]


def test_what_a_deployment_refuses_of_our_words_is_said_in_others() -> None:
    """As to a server: the lessons of a dialect count for a deployment too."""

    class Strict(Says):
        asked: list[dict[str, Any]]

        async def chat(self, request: dict[str, Any]) -> Any:
            self.asked.append(request)
            if "max_tokens" in request:
                words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
                return {"error": {"message": words, "type": "BadRequestError", "param": "max_tokens", "code": 400}}
            return await super().chat(request)

    strict = Strict(WHOLE)
    strict.asked = []
    assert bench_of(strict).complete(max_tokens=5)
    assert [("max_tokens" in one, "max_completion_tokens" in one) for one in strict.asked] == [
        (True, False),
        (False, True),
    ]


def test_embeddings_come_by_their_own_method(relayed: Bench) -> None:
    call = structs.replace(relayed.call(), body={"input": ["one", "two"], "dimensions": 8})
    done = relayed.run(lambda provider: provider.embed(call))
    assert len(json.loads(done.body)["data"]) == 2
    with pytest.raises(Exception, match="no embeddings_method"):
        bench_of(Says()).run(lambda provider: provider.embed(call))


def test_methods_sessions_and_models_are_those_of_the_settings_and_the_call() -> None:
    port = RelayPort(Relay("unused"))

    class Both:
        async def answer(self, request: dict[str, Any]) -> Any:
            return WHOLE

        async def tell(self, request: dict[str, Any]) -> Any:
            return Says(*CHUNKS)._yield()

    port.relay = Both()
    bench = Bench("serve", lambda: ServeProvider(port, method="answer", stream_method="tell"))
    bench.stream()
    call = structs.replace(bench.call(), cache_key="5e55", caller={"request_id": "req-1"})
    bench.run(lambda provider: complete_within(provider, call))
    assert port.asked == [("tell", About("upstream-model")), ("answer", About("upstream-model", "5e55", "req-1"))]

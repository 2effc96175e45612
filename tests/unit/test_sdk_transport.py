"""OpenAI's SDK over the transport by handle, without Ray: the handle leads to a real application in this process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import httpx2
import openai
import pytest
from ray.exceptions import RaySystemError
from ray.serve.exceptions import BackPressureError
from starlette.types import ASGIApp

from actors.breaker.outcomes import Outcome
from deployments.client import Client, Unavailable
from deployments.ingress.by_handle import answer_by_handle, call_by_handle
from deployments.ingress.http import build_api_by_handle
from deployments.sdk_transport import DEADLINE, async_http_client, http_client
from tests.clock import run_virtually
from tests.unit.world import ARGS, World, world

HI: list[Any] = [{"role": "user", "content": "Hi"}]
ANY = "http://any/v1/chat/completions"
LATE = {"status": 504, "headers": [("content-type", "application/json")], "body": b"late"}
FRAME = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
BEGUN = {"status": 200, "headers": [("content-type", "text/event-stream")], "body": FRAME}
DEAD = RaySystemError("The replica has died.")

Answers = Callable[[dict[str, Any]], AsyncGenerator[Any, None]]


class Response:
    """What Serve's handle returns: it can be cancelled while somebody waits for it."""

    def __init__(self, items: AsyncGenerator[Any, None]):
        self._items, self.cancelled = items, False

    async def __anext__(self) -> Any:
        return await anext(self._items)

    def __await__(self) -> Generator[Any, None, Any]:
        return anext(self._items).__await__()

    def cancel(self) -> None:
        self.cancelled = True
        self._closing = asyncio.ensure_future(self._items.aclose())


class Method:
    def __init__(self, handle: "FakeHandle", answers: Answers):
        self._handle, self._answers = handle, answers

    def remote(self, request: dict[str, Any]) -> Response:
        self._handle.asked.append(request)
        self._handle.given.append(Response(self._answers(request)))
        return self._handle.given[-1]


class FakeHandle:
    """Serve's handle of an application."""

    def __init__(self, streams: Answers, wholes: Answers):
        self.call_http, self.call_http_whole = Method(self, streams), Method(self, wholes)
        self.asked: list[dict[str, Any]] = []
        self.given: list[Response] = []

    def options(self, *, stream: bool) -> "FakeHandle":
        assert stream
        return self


class Joined(Client):
    """A client that has found its application."""

    def __init__(self, handle: Any):
        super().__init__()
        self._given = handle

    async def _handle(self) -> Any:
        if isinstance(self._given, Exception):
            raise self._given
        self._link().handle = self._given
        return self._given


def scripted(*items: Any, pause: float = 0.0) -> FakeHandle:
    async def answers(_: Any) -> AsyncGenerator[Any, None]:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item
            await asyncio.sleep(pause)

    return FakeHandle(answers, answers)


def of_app(app: ASGIApp) -> FakeHandle:
    async def whole(request: Any) -> AsyncGenerator[Any, None]:
        yield await answer_by_handle(app, request)

    return FakeHandle(lambda request: call_by_handle(app, request), whole)  # type: ignore[arg-type]


class Placed:
    """An SDK that does not ask a thread or a process for the platform it runs on."""

    @property
    def _platform(self) -> Any:
        return "Linux"

    @_platform.setter
    def _platform(self, _: Any) -> None:
        pass


class AsyncOpenAI(Placed, openai.AsyncOpenAI):
    pass


class OpenAI(Placed, openai.OpenAI):
    pass


def sdk(handle: Any, **options: Any) -> openai.AsyncOpenAI:
    options = {"max_retries": 0, "base_url": "http://any/v1", "api_key": "sk-secret", **options}
    return AsyncOpenAI(http_client=async_http_client(Joined(handle)), **options)


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[openai.AsyncOpenAI, World, FakeHandle]]:
    async with world({**ARGS}) as w:
        handle = of_app(build_api_by_handle(w.service))
        yield sdk(handle, **options), w, handle


async def whole(llm: openai.AsyncOpenAI, **more: Any) -> str | None:
    answer = await llm.chat.completions.create(model="default", messages=HI, **more)
    return answer.choices[0].message.content  # type: ignore[no-any-return]


async def streamed(llm: openai.AsyncOpenAI) -> list[str]:
    words: list[str] = []
    async for chunk in await llm.chat.completions.create(model="default", messages=HI, stream=True):
        words += [choice.delta.content for choice in chunk.choices if choice.delta.content]
    return words


def test_an_sdk_is_answered_whole_and_streamed_and_lists_the_models() -> None:
    async def main() -> None:
        async with serving() as (llm, _, _handle):
            assert await whole(llm) == "aws says hello"
            assert await streamed(llm) == ["Hel", "lo"]
            assert [model.id async for model in llm.models.list()] == ["default", "solo"]
            assert (await llm.models.retrieve("solo")).id == "solo"

    run_virtually(main())


def test_one_client_serves_several_event_loops() -> None:
    """Over HTTP it can't: its connections belong to the loop that opened them."""
    llm = sdk(scripted(BEGUN))
    assert [run_virtually(streamed(llm)) for _ in range(2)] == [["Hel"]] * 2


def test_no_key_leaves_the_process() -> None:
    async def main() -> None:
        async with serving(default_headers={"x-api-key": "sk-other", "x-agent-id": "planner"}) as (llm, _, handle):
            await whole(llm)
            headers = {name.lower(): value for name, value in handle.asked[0]["headers"]}
            assert headers["x-agent-id"] == "planner"
            assert not {"authorization", "x-api-key"} & headers.keys()
            assert "sk-" not in str(handle.asked)

    run_virtually(main())


def test_the_applications_errors_are_the_sdks_own() -> None:
    async def main() -> None:
        async with serving() as (llm, w, _):
            with pytest.raises(openai.NotFoundError) as unknown:
                await llm.chat.completions.create(model="gpt-17", messages=HI)
            assert unknown.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as bad:
                await llm.chat.completions.create(model="default", messages=[])
            assert bad.value.param == "messages"
            w.provider("openai").ends = [Outcome("server_error", "broken", status=500)]
            with pytest.raises(openai.InternalServerError) as failed:
                await llm.chat.completions.create(model="solo", messages=HI)
            assert failed.value.status_code == 503
            assert "retry-after" in failed.value.response.headers

    run_virtually(main())


@pytest.mark.parametrize("path", ["/v1/models/s%6Flo", "//v1/models/solo", "/v1/models/solo?x=%2F&y=1"])
def test_a_path_means_the_same_as_over_a_port(path: str) -> None:
    async def main() -> None:
        async with serving() as (_, _w, handle), async_http_client(Joined(handle)) as http:
            answer = await http.get(f"http://any{path}")
            assert (answer.status_code, answer.json().get("id")) == (200, "solo")

    run_virtually(main())


@pytest.mark.parametrize("code", [503, 500])
def test_no_way_to_the_application_is_an_error_whose_text_says_why(code: int) -> None:
    async def main() -> None:
        error = Unavailable("No Ray runs on this machine.", code, "unavailable", retry_after=1.0)
        with pytest.raises(openai.InternalServerError, match="No Ray runs on this machine") as away:
            await whole(sdk(error))
        assert (away.value.status_code, away.value.code) == (code, "unavailable")
        assert away.value.response.headers["retry-after"] == "1"

    run_virtually(main())


@pytest.mark.parametrize(
    ("error", "said"), [(DEAD, "The replica has died"), (BackPressureError(7, 7), "BackPressureError")]
)
def test_a_call_that_serve_refuses_or_loses_is_a_503_and_the_sdk_asks_again(error: Exception, said: str) -> None:
    async def main() -> None:
        handle = scripted(error)
        with pytest.raises(openai.InternalServerError, match=said) as lost:
            await whole(sdk(handle, max_retries=1))
        assert lost.value.status_code == 503
        assert len(handle.asked) == 2

    run_virtually(main())


def test_a_stream_that_breaks_off_raises_after_its_content() -> None:
    async def main() -> None:
        llm = sdk(scripted(BEGUN, DEAD))
        stream = await llm.chat.completions.create(model="default", messages=HI, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "Hel"
        with pytest.raises(openai.APIConnectionError) as lost:
            await anext(stream)
        assert isinstance(lost.value.__cause__, httpx2.ReadError)

    run_virtually(main())


def test_a_stream_that_ends_without_an_answer_is_a_connection_error() -> None:
    with pytest.raises(openai.APIConnectionError):
        run_virtually(streamed(sdk(scripted())))


def test_a_stream_that_is_silent_for_the_sdks_read_timeout_is_its_timeout() -> None:
    async def main() -> None:
        handle = scripted(BEGUN, FRAME, pause=7.0)
        began = asyncio.get_running_loop().time()
        with pytest.raises(openai.APITimeoutError):
            await streamed(sdk(handle, timeout=5.0))
        assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)
        assert handle.given[0].cancelled
        assert len(await streamed(sdk(scripted(BEGUN, FRAME, pause=7.0), timeout=8.0))) == 2

    run_virtually(main())


class NeverThere(Client):
    async def _handle(self) -> object:
        return await asyncio.Event().wait()


def test_the_sdks_connect_timeout_ends_the_search_for_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")

    async def nothing_known(look: object) -> None:
        return None

    monkeypatch.setattr("deployments.client._looked", nothing_known)

    async def main() -> None:
        llm = AsyncOpenAI(http_client=async_http_client(NeverThere()), api_key="any", max_retries=0)
        began = asyncio.get_running_loop().time()
        with pytest.raises(openai.InternalServerError, match="within 5 s"):
            await whole(llm)
        assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)

    run_virtually(main())


def deadline_of(handle: FakeHandle) -> list[str]:
    return [value for name, value in handle.asked[-1]["headers"] if name == DEADLINE]


def test_the_sdks_timeout_is_the_deadline_of_a_whole_answer_and_no_limit_of_a_stream() -> None:
    async def main() -> None:
        async with serving() as (llm, _, handle):
            await whole(llm)
            assert deadline_of(handle) == []  # the SDK's default is nobody's word
            await whole(llm.with_options(timeout=20))
            assert deadline_of(handle) == ["20"]
            await streamed(llm.with_options(timeout=20))
            assert deadline_of(handle) == []
            await whole(llm.with_options(timeout=20), extra_headers={DEADLINE: "7"})
            assert deadline_of(handle) == ["7"]

    run_virtually(main())


def test_within_the_sdks_timeout_the_next_provider_is_asked() -> None:
    """Over HTTP the application does not know how long its client waits, and the first provider takes it all."""

    async def main() -> None:
        async with serving(timeout=8) as (llm, w, _):
            w.provider("aws").seconds = 1000.0
            assert await whole(llm) == "openai says hello"

    run_virtually(main())


def test_a_deadline_that_was_the_sdks_timeout_ends_as_its_timeout_and_a_users_own_as_a_504() -> None:
    async def main() -> None:
        async with serving() as (llm, w, _):
            for name in ("aws", "openai", "local"):
                w.provider(name).seconds = 1000.0
            with pytest.raises(openai.APITimeoutError) as late:
                await whole(llm.with_options(timeout=3))
            assert "deadline" in str(late.value.__cause__)
            with pytest.raises(openai.InternalServerError) as own:
                await whole(llm, extra_headers={DEADLINE: "3"})
            assert (own.value.status_code, own.value.code) == (504, "deadline_exceeded")

    run_virtually(main())


@pytest.mark.parametrize("way", ["closed", "cancelled", "cancelled before the answer"])
def test_who_leaves_cancels_the_call(way: str) -> None:
    async def main() -> None:
        async with serving() as (llm, w, handle):
            w.provider("aws").pace = 5.0
            if way == "cancelled before the answer":
                w.provider("aws").seconds = 5.0
                waiting = asyncio.ensure_future(whole(llm))
            elif way == "cancelled":
                waiting = asyncio.ensure_future(streamed(llm))
            else:
                stream = await llm.chat.completions.create(model="default", messages=HI, stream=True)
                await anext(stream)
                await stream.close()
                waiting = asyncio.ensure_future(asyncio.sleep(0))
            await asyncio.sleep(1.0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert handle.given[0].cancelled

    run_virtually(main())


def test_a_stream_that_another_task_closes_is_cancelled_at_once_and_never_passes_for_whole() -> None:
    async def main() -> None:
        handle = scripted(BEGUN, FRAME, pause=100.0)
        llm = sdk(handle)
        stream = await llm.chat.completions.create(model="default", messages=HI, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "Hel"
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1.0)
        await stream.close()
        with pytest.raises(openai.APIConnectionError):
            await asyncio.wait_for(reading, 1.0)
        assert handle.given[0].cancelled

    run_virtually(main())


def test_a_stream_that_was_closed_between_two_pieces_does_not_pass_for_whole_either() -> None:
    async def main() -> None:
        http = async_http_client(Joined(scripted(BEGUN, FRAME)))
        async with http, http.stream("POST", ANY, json={"stream": True}) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == FRAME
            await answer.aclose()
            with pytest.raises(httpx2.ReadError):
                await anext(pieces)

    run_virtually(main())
    with http_client(Sync(BEGUN, FRAME)) as sync, sync.stream("POST", ANY, json={"stream": True}) as reply:
        rest = reply.iter_raw()
        assert next(rest) == FRAME
        reply.close()
        with pytest.raises(httpx2.ReadError):
            next(rest)


class NoWay:
    """A handle of a Serve that has ended meanwhile."""

    def options(self, *, stream: bool) -> "NoWay":
        return self

    @property
    def call_http(self) -> Any:
        raise RaySystemError("Ray has ended.")

    call_http_whole = call_http


@pytest.mark.parametrize("ask", [whole, streamed])
def test_a_handle_that_leads_nowhere_any_more_is_a_503_too(ask: Callable[[Any], Any]) -> None:
    with pytest.raises(openai.InternalServerError, match="Ray has ended") as away:
        run_virtually(ask(sdk(NoWay())))
    assert away.value.status_code == 503


def test_a_callers_span_goes_with_the_request_unless_it_names_one_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.client._trace", lambda: {"trace": {"traceparent": "00-ab-cd-01"}})

    async def main() -> None:
        async with serving() as (llm, _, handle):
            await whole(llm)
            await whole(llm, extra_headers={"traceparent": "00-12-34-01"})
            told = [[v for n, v in asked["headers"] if n.lower() == "traceparent"] for asked in handle.asked]
            assert told == [["00-ab-cd-01"], ["00-12-34-01"]]

    run_virtually(main())


class Sync:
    """The sync side of a client, without its thread."""

    def __init__(self, *items: Any):
        self._items, self.closed = items, False
        self.sync = self

    def call_http(self, request: Any, connect: float | None, read: float | None) -> Iterator[Any]:
        try:
            for item in self._items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True

    def call_http_whole(self, request: Any, connect: float | None, read: float | None) -> Any:
        return next(iter(self.call_http(request, connect, read)))


def sync_sdk(llm: Any, **options: Any) -> openai.OpenAI:
    return OpenAI(http_client=http_client(llm), api_key="any", max_retries=0, **options)


def test_without_an_event_loop_it_is_the_same() -> None:
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
    body = json.dumps({**answer, "choices": [choice]}).encode()
    done = sync_sdk(Sync({**LATE, "status": 200, "body": body})).chat.completions.create(model="default", messages=HI)
    assert done.choices[0].message.content == "Hello"
    for error, raised in (
        (Unavailable("away", 503, "unavailable"), openai.InternalServerError),
        (Unavailable("silent", 504), openai.APITimeoutError),
    ):
        with pytest.raises(raised):
            sync_sdk(Sync(error)).chat.completions.create(model="default", messages=HI)
    with pytest.raises(openai.APITimeoutError):
        sync_sdk(Sync(LATE), timeout=3).chat.completions.create(model="default", messages=HI)


def test_a_sync_stream_breaks_off_and_is_closed_as_an_async_one() -> None:
    llm = Sync(BEGUN, Unavailable("gone", 503))
    stream = sync_sdk(llm).chat.completions.create(model="default", messages=HI, stream=True)
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIConnectionError):
        next(stream)
    llm = Sync(BEGUN, FRAME)
    stream = sync_sdk(llm).chat.completions.create(model="default", messages=HI, stream=True)
    next(stream)
    assert not llm.closed
    stream.close()
    assert llm.closed


def test_a_sync_stream_that_another_thread_closes_never_passes_for_whole() -> None:
    class ClosedMeanwhile(Sync):
        def call_http(self, request: Any, connect: float | None, read: float | None) -> Iterator[Any]:
            yield BEGUN
            body.close()
            yield FRAME

    with http_client(ClosedMeanwhile()) as http, http.stream("POST", ANY, json={"stream": True}) as answer:
        body = answer
        pieces = answer.iter_raw()
        assert next(pieces) == FRAME
        with pytest.raises(httpx2.ReadError):
            next(pieces)


def test_a_bug_is_no_answer() -> None:
    with pytest.raises(KeyError):
        sync_sdk(Sync(KeyError("bug"))).chat.completions.create(model="default", messages=HI)

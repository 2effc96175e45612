"""Connections as providers have them: limits, reuse, compression, proxies, and bytes that are no HTTP. Real sockets."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from yarl import URL

from deployments.errors import AttemptFailed
from deployments.providers.base import End, Provider, complete_within, stream_within
from deployments.providers.http.transport import Transport, proxy_of
from tests.clock import VirtualLoop, run_virtually
from tests.fakes.server import Behaviour
from tests.providers.conftest import CLOUDS, LIMITS, WIRES, Bench, cloud, provider_at

WORDS = ["Paris", " is", " it"]


@contextlib.asynccontextmanager
async def saying(
    *answers: bytes, then_close: bool = False, later: bytes = b"", read: asyncio.Event | None = None
) -> AsyncIterator[str]:
    """The URL of a server that answers each request, on whatever connection, with the next bytes.

    `later` comes after each answer by itself, when the answer was `read`.
    """
    left = iter(answers)
    open_ones: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones[asyncio.current_task()] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                writer.write(next(left))
                await writer.drain()
                if read is not None:
                    await read.wait()
                    read.clear()
                    writer.write(later)
                if then_close:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if read is not None:
            read.set()
        for writer in open_ones.values():
            writer.transport.abort()
        await asyncio.gather(*(task for task in open_ones if task is not None))


async def arrived() -> None:
    """What the server has to write now is written, and the loop has looked at its sockets since."""
    for _ in range(10):
        await asyncio.sleep(0)


def http(body: bytes, kind: str = "application/json", *headers: str, length: int | None = None) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-type: {kind}", f"content-length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def whole(kind: str) -> bytes:
    return WIRES[kind]().whole(WORDS)


def frames(kind: str) -> bytes:
    return b"".join(WIRES[kind]().frames(WORDS))


async def ask(provider: Provider, kind: str, *, stream: bool = False) -> bytes:
    call = Bench(kind, lambda: provider, limits=LIMITS).call(stream=stream)
    if not stream:
        return (await complete_within(provider, call)).body
    data = b""
    async with contextlib.aclosing(stream_within(provider, call)) as items:
        async for item in items:
            data += b"" if isinstance(item, End) else item.data
    return data


def asked(kind: str, *answers: bytes, stream: bool = False, then_close: bool = False) -> bytes:
    """What the provider makes of the last of the answers."""

    async def main() -> bytes:
        data = b""
        async with saying(*answers, then_close=then_close) as url:
            provider = provider_at(kind, url, LIMITS.connect)
            try:
                for _ in answers:
                    data = await ask(provider, kind, stream=stream)
            finally:
                await provider.close()
        return data

    return asyncio.run(main())


def kind_of(kind: str, *answers: bytes, stream: bool = False, then_close: bool = False) -> str:
    with pytest.raises(AttemptFailed) as caught:
        asked(kind, *answers, stream=stream, then_close=then_close)
    return caught.value.outcome.kind


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_compressed_answer_is_read(kind: str) -> None:
    packed = http(gzip.compress(whole(kind)), "application/json", "content-encoding: gzip")
    assert b"Paris is it" in asked(kind, packed)


@pytest.mark.parametrize("kind", ["openai", "google"])
def test_a_compressed_stream_is_read(kind: str) -> None:
    packed = http(gzip.compress(frames(kind)), "text/event-stream", "content-encoding: gzip")
    assert b"Paris" in asked(kind, packed, stream=True)


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_not_compressed_as_it_says_is_malformed(kind: str, stream: bool) -> None:
    answer = http(b"this is no gzip at all", "text/event-stream", "content-encoding: gzip")
    assert kind_of(kind, answer, stream=stream) == "malformed"


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nthis is no length\r\n",
        http(b"{", length=99),
        b"",
    ],
    ids=["no-http", "negative", "no-chunks", "too-short", "nothing"],
)
def test_what_is_no_http_is_a_broken_connection(kind: str, stream: bool, raw: bytes) -> None:
    assert kind_of(kind, raw, stream=stream, then_close=True) == "broken"


@pytest.mark.parametrize("kind", CLOUDS)
def test_bytes_after_an_answer_are_not_the_next_answer(kind: str) -> None:
    poisoned = http(whole(kind)) + http(whole(kind).replace(b"Paris", b"Berlin"))
    assert b"Paris" in asked(kind, poisoned, http(whole(kind)))


@pytest.mark.parametrize("kind", CLOUDS)
def test_what_comes_while_nobody_asked_is_nobodys_answer(kind: str) -> None:
    async def main() -> None:
        unasked, read = http(whole(kind).replace(b"Paris", b"Berlin")), asyncio.Event()
        async with saying(*[http(whole(kind))] * 3, later=unasked, read=read) as url:
            provider = provider_at(kind, url, LIMITS.connect)
            for _ in range(3):
                assert b"Paris" in await ask(provider, kind)
                read.set()
                await arrived()
            await provider.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_connection_that_the_server_closed_after_its_answer_is_not_used_again(kind: str) -> None:
    async def main() -> None:
        async with saying(*[http(whole(kind))] * 3, then_close=True) as url:
            provider = provider_at(kind, url, LIMITS.connect)
            for _ in range(3):
                assert b"Paris" in await ask(provider, kind)
                await arrived()  # its end too
            await provider.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", CLOUDS)
def test_headers_may_be_long(kind: str) -> None:
    assert b"Paris" in asked(kind, http(whole(kind), "application/json", "content-security-policy: " + "x" * 30_000))


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_long_request_arrives_whole(kind: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    text = "x" * 3_000_000
    try:
        bench.complete(messages=[{"role": "user", "content": text}])
        assert text in json.dumps(bench.fake.received[0].body)
    finally:
        bench.fake.stop()


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_request_goes_by_the_proxy_that_the_environment_names(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    monkeypatch.setenv("http_proxy", bench.fake.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    proxy_of.cache_clear()
    try:
        bench.build = lambda: provider_at(kind, "http://elsewhere.invalid:81", LIMITS.connect)
        bench.complete()
        bench.stream()
        assert [r.path.split("/")[:3] for r in bench.fake.received] == [["http:", "", "elsewhere.invalid:81"]] * 2
        bench.build = lambda: provider_at(kind, bench.fake.url, LIMITS.connect)
        bench.complete()
        assert bench.fake.received[-1].path.startswith("/")
    finally:
        proxy_of.cache_clear()
        bench.fake.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_openai_is_followed_to_where_it_moved(stream: bool) -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.script = [Behaviour("raw", status=307, headers={"location": f"{bench.fake.url}/v2/chat/completions"})]
    try:
        bench.stream() if stream else bench.complete()
        assert [r.path for r in bench.fake.received] == ["/v1/chat/completions", "/v2/chat/completions"]
        assert bench.fake.received[0].body == bench.fake.received[1].body
    finally:
        bench.fake.stop()


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
def test_nobody_else_is_followed(kind: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    bench.fake.behave = Behaviour("raw", status=307, headers={"location": f"{bench.fake.url}/elsewhere"})
    try:
        assert bench.failure().status == 307
        assert len(bench.fake.received) == 1
    finally:
        bench.fake.stop()


def test_who_stands_in_the_url_is_who_asks() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    url = bench.fake.url.replace("//", "//me:secret@")
    bench.build = lambda: provider_at("openai", url, LIMITS.connect)
    try:
        bench.complete()
        assert bench.fake.received[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
    finally:
        bench.fake.stop()


# Limits.


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word, not even TLS's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_handshake_that_never_ends_is_over_with_the_connect_limit(kind: str, stream: bool, silent: str) -> None:
    bench = Bench(kind, lambda: provider_at(kind, silent, 0.2))
    assert bench.failure(stream=stream).kind == "connect"


def stand_still(seconds: float) -> None:
    """As our own loop does when something holds it up, on a virtual clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += seconds


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stall", "said"), [(0.0, "connect"), (20.0, "stalled")])
def test_a_handshake_in_which_we_stood_still_is_no_fault_of_the_host(
    kind: str, stream: bool, silent: str, stall: float, said: str
) -> None:
    async def main() -> None:
        provider = provider_at(kind, silent, LIMITS.connect)
        asking = asyncio.create_task(ask(provider, kind, stream=stream))
        await asyncio.sleep(1)
        stand_still(stall)
        with pytest.raises(AttemptFailed) as caught:
            await asking
        await provider.close()
        assert caught.value.outcome.kind == said

    run_virtually(main())


def test_a_connection_that_was_made_while_we_stood_still_is_used() -> None:
    async def main() -> None:
        async with saying(http(b"{}")) as url:
            transport = Transport(connect=3, connections=1)
            asking = asyncio.create_task(transport.post(URL(url), {}, b"{}"))
            await asyncio.sleep(0)  # it has begun to connect
            stand_still(60)
            with contextlib.closing(await asking) as answer:
                assert await answer.whole() == b"{}"
            await transport.aclose()

    run_virtually(main())


def test_a_place_that_became_free_while_we_stood_still_is_taken() -> None:
    async def main() -> None:
        transport: Any = Transport(connect=3, connections=1)
        await transport._acquire_slot()
        waiting = asyncio.create_task(transport._acquire_slot())
        asyncio.get_running_loop().call_later(2, transport._slots.release)
        await asyncio.sleep(1)
        stand_still(60)
        await waiting

    run_virtually(main())


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("ends", ["cancelled", "closed"])
def test_who_finds_no_connection_free_is_busy_until_one_is(kind: str, ends: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    fake = bench.fake
    fake.behave = Behaviour("hang") if ends == "cancelled" else Behaviour("stall", after=2)

    async def work(provider: Provider) -> None:
        transport: Any = provider._transport  # type: ignore[attr-defined]
        first = stream_within(provider, bench.call(stream=True))
        waiting = asyncio.ensure_future(anext(first))
        await (asyncio.to_thread(fake.arrived.wait, 30) if ends == "cancelled" else waiting)
        assert transport._slots.locked()
        transport._connect = 0.2  # the place is waited for so long; connections are made before or after
        with pytest.raises(AttemptFailed) as caught:
            await complete_within(provider, bench.call())
        assert caught.value.outcome.kind == "busy"
        transport._connect = LIMITS.connect
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await first.aclose()
        fake.behave = Behaviour()
        await complete_within(provider, bench.call())
        assert not transport._slots.locked()
        assert await asyncio.to_thread(fake.received[0].gone.wait, 10), "the upstream was not freed"

    def build() -> Provider:
        provider: Any = provider_at(kind, fake.url, LIMITS.connect)
        provider._transport._slots = asyncio.Semaphore(1)
        return provider

    bench.build = build  # type: ignore[assignment]
    try:
        bench.run(work)
    finally:
        fake.stop()


def test_a_transport_that_nothing_went_by_closes() -> None:
    asyncio.run(Transport(connect=1, connections=1).aclose())

"""The thin client reads each answer as aiohttp does, in whatever pieces it comes: aiohttp is the oracle."""

import asyncio
import contextlib
import gzip
import pathlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import httpx2
import pytest
import uvloop
from yarl import URL

from deployments.errors import AttemptFailed
from deployments.providers.http import pool
from deployments.providers.http.answer import GATHER_SECONDS, MOST_UNREAD
from deployments.providers.http.connection import HttpConnection
from deployments.providers.http.pool import head_of
from deployments.providers.http.timing import begin_timing
from deployments.providers.http.transport import Transport, UpstreamResponse
from tests.fakes.tls import trusted

SECONDS = 20.0
HEADERS = {"Authorization": "Bearer sk", "Content-Type": "application/json"}
BODY = b'{"model":"m"}'
OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers each request with the next bytes, piece by piece, each in a packet of its own."""

    def __init__(self, answers: Sequence[Sequence[bytes]], *, closes: bool):
        self._answers, self.closes = list(answers), closes
        self.received: list[bytes] = []
        self.asked = asyncio.Event()
        self.connections = 0
        self.tasks: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self.ended = asyncio.Event()  # a connection of it was closed by the client
        self.url = URL()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks[task] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while self._answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.received.append(head + await reader.readexactly(length))
                self.asked.set()
                pieces = self._answers.pop(0)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.closes or not _keeps(b"".join(pieces)):
                    break
            else:
                await reader.read()
        self.ended.set()
        writer.close()


def _keeps(answer: bytes) -> bool:
    return b"content-length" in answer or b"chunked" in answer or answer.startswith(b"HTTP/1.1 204")


@contextlib.asynccontextmanager
async def serving(*answers: Sequence[bytes], closes: bool = False) -> AsyncIterator[Server]:
    made = Server(answers, closes=closes)
    async with asyncio.timeout(SECONDS):
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat?a=b%20c")
        try:
            yield made
        finally:
            server.close()
            for writer in made.tasks.values():
                writer.transport.abort()
            await asyncio.gather(*made.tasks)


class ByAiohttp(Transport):
    """The same transport, with every call by aiohttp."""

    @staticmethod
    def _is_plain(url: URL) -> bool:
        return False


async def read(transport: Transport, url: URL) -> tuple[Any, ...]:
    """Return what is told of an answer: its status, headers and body, or the error and its message."""
    try:
        with contextlib.closing(await transport.post(url, HEADERS, BODY)) as answer:
            body = await answer.whole()
            return answer.status, sorted((k.lower(), v) for k, v in answer.headers.items()), body, answer.ended
    except AttemptFailed as error:
        return error.outcome.kind, error.outcome.message
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return type(error).__name__, str(error)


async def told(transport: Transport, pieces: Sequence[bytes]) -> tuple[Any, ...]:
    async with serving(pieces, closes=True) as server:
        try:
            return await read(transport, server.url)
        finally:
            await transport.aclose()


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


PACKED = gzip.compress(b"Paris " * 500)
SMALL = zlib.compress(b"Paris")
ANSWERS: dict[str, bytes] = {
    "whole": OK + b"content-length: 5\r\nx-request-id: abc\r\n\r\nParis",
    "empty": OK + b"content-length: 0\r\n\r\n",
    "in chunks": OK + b"transfer-encoding: chunked\r\n\r\n" + chunked(b"Par", b"is"),
    "with a trailer": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nParis\r\n0\r\nx-sum: 1\r\n\r\n",
    "until it closes": OK + b"content-type: text/plain\r\n\r\nParis",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "an error": b"HTTP/1.1 429 Too Many\r\nretry-after: 3\r\ncontent-length: 4\r\n\r\nslow",
    "a redirect": b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"content-length: 5\r\n\r\nParis",
    "interim twice": b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + OK + b"content-length: 5\r\n\r\nParis",
    "old": b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nParis",
    "says close": OK + b"connection: close\r\ncontent-length: 5\r\n\r\nParis",
    "gzip": OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "gzip in chunks": OK
    + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunked(PACKED[:9], PACKED[9:]),
    "deflate": OK + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(SMALL) + SMALL,
    "identity": OK + b"content-encoding: identity\r\ncontent-length: 5\r\n\r\nParis",
    "a name twice": OK + b"content-length: 5\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nParis",
    "not ASCII": OK + b"content-length: 5\r\nx-name: M\xc3\xbcller\r\n\r\nParis",
    "broken off": OK + b"content-length: 50\r\n\r\nParis",
    "broken off in a chunk": OK + b"transfer-encoding: chunked\r\n\r\n50\r\nParis",
    "broken off in its head": OK + b"content-len",
    "no answer": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no length": OK + b"content-length: -5\r\n\r\n",
    "no chunk": OK + b"transfer-encoding: chunked\r\n\r\nthis is no length\r\n",
    "no gzip": OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nParis",
    "half a gzip": OK + b"content-encoding: gzip\r\ncontent-length: 20\r\n\r\n" + PACKED[:20],
}
NOT_HTTP = ("no HTTP", "no length", "no chunk")  # of which the thin client says why


def pieces_of(answer: bytes) -> list[list[bytes]]:
    """Return the answer in one piece, in two at each place that matters, and byte by byte."""
    cuts = [at for at in (1, 9, answer.find(b"\r\n\r\n") + 2, answer.find(b"\r\n\r\n") + 4, len(answer) - 1) if at > 0]
    return [[answer], *[[answer[:at], answer[at:]] for at in cuts], [answer[i : i + 1] for i in range(len(answer))]]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_as_aiohttp_reads_it(name: str) -> None:
    async def main() -> None:
        expected = await told(ByAiohttp(connect=3.0, connections=4), [ANSWERS[name]])
        for pieces in pieces_of(ANSWERS[name]):
            got = await told(Transport(connect=3.0, connections=4), pieces)
            if name == "half a gzip":  # which aiohttp takes for a whole one
                assert got == ("DecodingError", "the provider's answer can't be decompressed")
            elif name in NOT_HTTP:
                assert (got[0], got[1].partition(" (")[0]) == (expected[0], expected[1].partition(" (")[0])
            else:
                assert got == expected, pieces[:2]

    asyncio.run(main())


def test_what_is_sent_is_what_aiohttp_sends() -> None:
    """But for the way to pack answers that few servers know, and for who says that it asks."""

    async def sent(transport: Transport) -> tuple[bytes, list[bytes], bytes]:
        async with serving([ANSWERS["whole"]]) as server:
            await read(transport, server.url)
            await transport.aclose()
            head, _, body = server.received[0].partition(b"\r\n\r\n")
            begin, *lines = head.split(b"\r\n")
            lines = [
                line for line in lines if not line.lower().startswith((b"user-agent", b"accept-encoding", b"host"))
            ]
            return begin, sorted(line.lower() for line in lines), body

    async def main() -> None:
        ours = await sent(Transport(connect=3.0, connections=4))
        assert ours == await sent(ByAiohttp(connect=3.0, connections=4))
        assert ours[0] == b"POST /v1/chat?a=b%20c HTTP/1.1"

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    ["http://host:80/v1", "https://host/v1", "https://host:8443/", "http://[::1]:9/v1", "http://m\u00fcller.de/v1"],
)
def test_the_host_is_named_as_aiohttp_names_it(url: str) -> None:
    import aiohttp

    async def main() -> str:
        request = aiohttp.ClientRequest("POST", URL(url), loop=asyncio.get_running_loop())
        return request.headers["Host"]

    assert f"\r\nHost: {asyncio.run(main())}\r\n".encode() in head_of(URL(url), {})


@pytest.mark.parametrize("wrong", ["a\r\nx-evil: 1", "a\nb", "a\0b"])
def test_a_header_can_not_add_another(wrong: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        head_of(URL("http://host/"), {"x-name": wrong})
    with pytest.raises(ValueError, match="line break"):
        head_of(URL("http://host/"), {wrong: "a"})


def test_a_connection_serves_one_call_after_another_and_two_at_once_have_two() -> None:
    async def main() -> None:
        transport = Transport(connect=3.0, connections=8)
        async with serving(*[[ANSWERS["in chunks"]]] * 5) as server:
            for _ in range(3):
                assert (await read(transport, server.url))[2] == b"Paris"
            assert server.connections == 1
            await asyncio.gather(read(transport, server.url), read(transport, server.url))
            assert server.connections == 2
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["until it closes", "old", "says close", "broken off"])
def test_a_connection_that_ends_with_its_answer_is_not_used_again(name: str) -> None:
    async def main() -> None:
        transport = Transport(connect=3.0, connections=1)
        async with serving([ANSWERS[name]], [ANSWERS["whole"]], closes=True) as server:
            await read(transport, server.url)
            assert (await read(transport, server.url))[2] == b"Paris"
            assert server.connections == 2
            await transport.aclose()

    asyncio.run(main())


def test_an_unused_connection_is_closed_and_nothing_wakes_us_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.05)

    async def main() -> None:
        transport = Transport(connect=3.0, connections=1)
        async with serving([ANSWERS["whole"]], [ANSWERS["whole"]]) as server:
            await read(transport, server.url)
            await server.ended.wait()
            assert transport._pool._sweep is None
            assert not transport._pool._places
            assert not transport._pool._idle
            assert (await read(transport, server.url))[2] == b"Paris"
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("begun", [False, True])
def test_a_call_that_is_given_up_closes_its_connection_and_gives_its_place_back(begun: bool) -> None:
    begin = OK + b"content-length: 50\r\n\r\nParis"

    async def main() -> None:
        transport = Transport(connect=3.0, connections=1)
        async with serving([begin if begun else b""], [ANSWERS["whole"]]) as server:

            async def ask() -> None:
                with contextlib.closing(await transport.post(server.url, HEADERS, BODY)) as answer:
                    await answer.whole()

            asking = asyncio.create_task(ask())
            await server.asked.wait()
            asking.cancel()
            await asyncio.wait([asking])
            await server.ended.wait()
            assert (await read(transport, server.url))[2] == b"Paris"
            await transport.aclose()
            assert not transport._pool._places

    asyncio.run(main())


async def begun(transport: Transport, url: URL, prepare: Callable[[], Any] = lambda: None) -> UpstreamResponse:
    prepare()
    return await transport.post(url, HEADERS, BODY)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def asked(serve: Serve, prepare: Callable[[], Any] = lambda: None) -> AsyncIterator[UpstreamResponse]:
    """The answer of a server that does this, whose head has arrived."""
    transport = Transport(connect=3.0, connections=1)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answer = await begun(transport, URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), prepare)
    try:
        yield answer
    finally:
        answer.close()
        await transport.aclose()
        server.close()


def test_a_server_that_writes_faster_than_we_read_is_held_up() -> None:
    size = 64 * 1024 * 1024

    async def main() -> None:
        sent = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(BODY)
            writer.write(OK + b"content-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
            writer.close()

        async with asked(serve) as answer:
            await asyncio.sleep(0.5)
            assert sent < size / 2, "nothing held the server up"
            total = 0
            while data := await answer.read():
                total += len(data)
            assert total == size

    asyncio.run(main())


async def one_by_one(writer: asyncio.StreamWriter, letters: bytes) -> None:
    """Write chunks of a letter each, so that each comes by itself."""
    for letter in letters:
        writer.write(b"1\r\n%c\r\n" % letter)
        await asyncio.sleep(0.01)


def test_what_waits_in_the_socket_of_a_busy_reader_is_read_with_what_has_come_before() -> None:
    async def main() -> None:
        written, read = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(BODY)
            writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
            await one_by_one(writer, b"abcde")
            written.set()
            await read.wait()
            writer.write(b"0\r\n\r\n")
            writer.close()

        async with asked(serve) as answer:
            await written.wait()
            assert await answer.read() == b"abcde"
            read.set()
            assert await answer.read() == b""

    uvloop.run(asyncio.wait_for(main(), SECONDS))  # as in a replica


def test_a_reader_that_comes_now_and_then_costs_one_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[bytes]()
    take = HttpConnection.data_received

    def noted(connection: HttpConnection, data: bytes) -> None:
        reads.append(data)
        take(connection, data)

    monkeypatch.setattr(HttpConnection, "data_received", noted)

    async def main() -> None:
        turns = [(asyncio.Event(), asyncio.Event()) for _ in range(4)]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(BODY)
            writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
            for turn, done in turns:
                await turn.wait()
                await one_by_one(writer, b"abcd")
                done.set()
            writer.write(b"0\r\n\r\n")
            writer.close()

        async with asked(serve) as answer:
            needed = list[int]()
            for turn, done in turns:
                before = len(reads)
                turn.set()
                await done.wait()
                assert await answer.read() == b"abcd"
                needed.append(len(reads) - before)
            assert needed == [2, 1, 1, 1], "the first shows that the reader is busy"
            assert await answer.read() == b""

    uvloop.run(asyncio.wait_for(main(), SECONDS))  # as in a replica


def test_parts_of_what_is_wanted_whole_wait_for_each_other_but_not_the_first_and_not_at_the_end() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(BODY)
            writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
            for part in [b"a", b"b", b"c", b"d"]:
                writer.write(b"1\r\n" + part + b"\r\n")
                await asyncio.sleep(GATHER_SECONDS / 10)
            await asyncio.sleep(5 * GATHER_SECONDS)
            writer.write(b"1\r\ne\r\n0\r\n\r\n")
            writer.close()

        def prepare() -> None:
            begin_timing().joins = True

        async with asked(serve, prepare) as answer:
            read = [await answer.read() for _ in range(4)]
            assert read == [b"a", b"bcd", b"e", b""]

    asyncio.run(main())


def test_what_unpacks_to_too_much_is_malformed_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 40_000_000)
    answer = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb
    got = asyncio.run(told(Transport(connect=3.0, connections=1), [answer]))
    assert got == ("DecodingError", "the provider's answer can't be decompressed")


def test_a_head_without_end_is_no_http() -> None:
    answer = OK + b"x-more: y\r\n" * 100_000
    got = asyncio.run(told(Transport(connect=3.0, connections=1), [answer]))
    assert got[0] == "RemoteProtocolError"


def test_a_connection_may_carry_any_number_of_answers() -> None:
    """The limit of a head is for each."""
    answer = OK + b"content-length: 5\r\nx-more: " + b"y" * 30_000 + b"\r\n\r\nParis"

    async def main() -> None:
        transport = Transport(connect=3.0, connections=1)
        async with serving(*[[answer]] * 12) as server:
            for _ in range(12):
                assert (await read(transport, server.url))[0] == 200
            assert server.connections == 1
            await transport.aclose()

    asyncio.run(main())


def test_a_long_body_that_comes_with_its_head_is_no_long_head() -> None:
    body = b"x" * 400_000
    answer = OK + b"content-length: %d\r\n\r\n" % len(body) + body
    got = asyncio.run(told(Transport(connect=3.0, connections=1), [answer]))
    assert got[2] == body


@pytest.mark.parametrize("status", [b"429 Too Many", b"200 OK", b"401 No"])
def test_nothing_that_says_that_it_is_packed_is_nothing(status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n"

    async def main() -> None:
        got = await told(Transport(connect=3.0, connections=1), [answer])
        assert got == await told(ByAiohttp(connect=3.0, connections=1), [answer])

    asyncio.run(main())


def test_a_body_of_two_packed_pieces_is_both() -> None:
    packed = gzip.compress(b"Par") + gzip.compress(b"is")
    answer = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
    for pieces in pieces_of(answer):
        got = asyncio.run(told(Transport(connect=3.0, connections=1), pieces))
        assert got[2] == b"Paris"


def test_a_connection_whose_end_has_come_is_given_to_nobody() -> None:
    """Between the end and its last word the transport takes bytes, and drops them."""

    async def main() -> None:
        transport = Transport(connect=3.0, connections=1)
        async with serving([ANSWERS["whole"]], [ANSWERS["whole"]]) as server:
            await read(transport, server.url)
            [idle] = transport._pool._places
            idle.eof_received()
            assert idle.closing
            assert (await read(transport, server.url))[2] == b"Paris"
            assert server.connections == 2
            await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("unsent", [0, 1])
def test_a_connection_whose_request_has_not_gone_out_is_not_used_again(unsent: int) -> None:
    """Some servers answer before they have read all of it."""
    transport: Any = mock.Mock()
    transport.get_write_buffer_size.return_value = unsent
    free, gone = list[Any](), list[Any]()
    connection = HttpConnection(free.append, gone.append)
    connection.connection_made(transport)
    answer = connection.ask(URL("http://host/"), b"")
    connection.data_received(ANSWERS["an error"])
    assert (answer.status, answer.at_eof()) == (429, False)
    assert (bool(free), bool(gone)) == (not unsent, bool(unsent))


@contextlib.contextmanager
def accepted(listener: socket.socket, own: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """The next connection over TLS, whose request has come, and which has had the head of an answer in chunks."""
    plain, _address = listener.accept()
    with own.wrap_socket(plain, server_side=True) as connection:
        while not connection.recv(65536).endswith(BODY):
            pass
        connection.sendall(OK + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        yield connection


def run_beside(serve: Callable[[socket.socket], None], main: Callable[[URL], Awaitable[None]]) -> None:
    """As in a replica: uvloop, and a server that goes its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=[listener], daemon=True)
        serving.start()
        uvloop.run(asyncio.wait_for(main(URL(f"https://127.0.0.1:{listener.getsockname()[1]}/")), SECONDS))
        serving.join(SECONDS)


def test_what_a_server_said_before_it_closed_is_read_over_tls_too(tmp_path: pathlib.Path) -> None:
    own = trusted(certificate := tmp_path / "both.pem")
    parts = [b"word %04d " % number + b"x" * 300 for number in range(20)]

    def serve(listener: socket.socket) -> None:
        for _ in range(3):
            with accepted(listener, own) as connection:
                for part in parts:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
                    time.sleep(0.002)
                connection.sendall(b"0\r\n\r\n")

    async def main(url: URL) -> None:
        transport = Transport(connect=3.0, connections=4, tls=ssl.create_default_context(cafile=certificate))
        for _ in range(3):
            with contextlib.closing(await transport.post(url, HEADERS, BODY)) as answer:
                got = b""
                while data := await answer.read():
                    got += data
                    await asyncio.sleep(0.3)  # the reader has something else to do
                assert got == b"".join(parts)
        await transport.aclose()

    run_beside(serve, main)


@pytest.mark.parametrize("size", [MOST_UNREAD * halves // 2 for halves in (3, 4, 5)])
def test_what_follows_a_long_part_over_tls_is_read_though_its_reader_is_away(tmp_path: pathlib.Path, size: int) -> None:
    own = trusted(certificate := tmp_path / "both.pem")
    begin = [b"%06d" % number + b"x" * 1018 for number in range(size // 1024)]
    rest = b"y" * 100_000
    was_read, closed = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        with accepted(listener, own) as connection:
            for part in begin:
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            was_read.wait(SECONDS)
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        closed.set()

    async def main(url: URL) -> None:
        transport = Transport(connect=3.0, connections=1, tls=ssl.create_default_context(cafile=certificate))
        with contextlib.closing(await transport.post(url, HEADERS, BODY)) as answer:
            got = b""
            while len(got) < sum(map(len, begin)):
                await asyncio.sleep(0.3)  # more comes than is held unread
                got += await answer.read()
            was_read.set()
            assert await asyncio.to_thread(closed.wait, SECONDS)
            await asyncio.sleep(0.1)
            while data := await answer.read():
                got += data
            assert got == b"".join([*begin, rest])
        await transport.aclose()

    run_beside(serve, main)

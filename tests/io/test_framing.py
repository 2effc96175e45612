"""Messages over a socket, and who may send them."""

import asyncio
from collections.abc import Callable

import pytest

from deployments.rpc.framing import (
    HALF_SECRET,
    HANDSHAKE_SECONDS,
    MOST_HANDSHAKES,
    Listener,
    connect,
    is_encrypted,
)
from tests.clock import run_virtually


async def over(reader: asyncio.StreamReader) -> bool:
    """Nothing came, and the connection has ended, one way or another."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


def test_who_does_not_know_the_secret_is_not_listened_to() -> None:
    async def main() -> None:
        async with Listener.open("127.0.0.1") as listener:
            assert isinstance(listener.address, tuple)
            reader, writer = await asyncio.open_connection(*listener.address)
            writer.write(b"?" * HALF_SECRET + b"\0\0\0\x05what?")
            assert await over(reader)
            writer.close()
            silent, silence = await asyncio.open_connection(*listener.address)
            pipe = await connect(listener.address, listener.secret)
            taken = await listener.accept()
            assert not taken.closed
            with pytest.raises(OSError, match="does not know"):
                await connect(listener.address, listener.secret)  # a second time
            await asyncio.sleep(HANDSHAKE_SECONDS + 0.1)
            assert await over(silent)
            silence.close()
            pipe.close()
            taken.close()
        with pytest.raises(OSError, match="111"):
            await connect(listener.address, listener.secret)

    run_virtually(main())


STRANGERS = {
    "silence": lambda secret: b"",
    "half of the half": lambda secret: secret[: HALF_SECRET // 2],
    "all but a byte": lambda secret: secret[: HALF_SECRET - 1],
    "the other half": lambda secret: secret[HALF_SECRET:],
    "a huge length": lambda secret: b"\xff\xff\xff\xff",
    "much garbage": lambda secret: b"\xff" * 10_000_000,
}


@pytest.mark.parametrize("says", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_gone_within_a_second_and_nothing_is_kept_of_it(says: Callable[[bytes], bytes]) -> None:
    async def main() -> None:
        async with Listener.open("127.0.0.1") as listener:
            assert isinstance(listener.address, tuple)
            reader, writer = await asyncio.open_connection(*listener.address)
            writer.write(says(listener.secret))
            await asyncio.sleep(0.05)
            assert all(len(one._received) <= 256 * 1024 for one in listener._handshakes)
            assert await asyncio.wait_for(over(reader), HANDSHAKE_SECONDS)
            assert listener._handshakes == set()
            writer.transport.abort()
            near, far = await connect(listener.address, listener.secret), await listener.accept()
            near.close()
            far.close()

    run_virtually(main())


def test_a_crowd_of_strangers_is_bounded_and_gone_within_a_second() -> None:
    async def main() -> None:
        async with Listener.open("127.0.0.1") as listener:
            assert isinstance(listener.address, tuple)
            crowd = [await asyncio.open_connection(*listener.address) for _ in range(MOST_HANDSHAKES + 20)]
            await asyncio.sleep(0.1)
            assert len(listener._handshakes) == MOST_HANDSHAKES
            gone = await asyncio.gather(*(over(reader) for reader, _ in crowd[MOST_HANDSHAKES:]))
            assert all(gone)
            await asyncio.sleep(HANDSHAKE_SECONDS)
            assert listener._handshakes == set()
            near, far = await connect(listener.address, listener.secret), await listener.accept()
            for connection in (near, far):
                connection.close()
            for _, writer in crowd:
                writer.transport.abort()

    run_virtually(main())


@pytest.mark.parametrize("says", [b"", b"?" * HALF_SECRET + b"\0\0\0\x05what?"])
def test_whoever_listens_in_its_place_is_not_believed(says: bytes) -> None:
    async def main() -> None:
        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readexactly(HALF_SECRET))
            writer.write(says)
            assert await over(reader)
            writer.close()

        heard: list[bytes] = []
        secret = bytes(range(2 * HALF_SECRET))
        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        with pytest.raises((OSError, TimeoutError)):
            await connect(server.sockets[0].getsockname(), secret)
        assert heard == [secret[:HALF_SECRET]], "it was told the other half"
        server.close()
        await asyncio.sleep(0.1)

    run_virtually(main())


def test_a_message_that_is_too_long_ends_the_connection_at_both_ends() -> None:
    async def main() -> None:
        async with Listener.open(None) as listener:
            near, far = await connect(listener.address, listener.secret), await listener.accept()
            ended: list[str] = []
            near.listen(print, lambda: ended.append("near"))
            far.listen(print, lambda: ended.append("far"))
            near._transport.write(b"\xff" * 8)  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert sorted(ended) == ["far", "near"]

    run_virtually(main())


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_no_port_of_ours_goes_around_rays_encryption(value: str) -> None:
    assert is_encrypted({"RAY_USE_TLS": value})
    assert not is_encrypted({"RAY_USE_TLS": "0"})
    assert not is_encrypted({})

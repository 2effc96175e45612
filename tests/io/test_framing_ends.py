"""A connection that ends in the middle of a message, and a listener that raises: each end is told, once."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from deployments.rpc.framing import FramedConnection, Listener, connect
from tests.clock import run_virtually


@contextlib.asynccontextmanager
async def two_ends() -> AsyncGenerator[tuple[FramedConnection, FramedConnection], None]:
    async with Listener.open(None) as listener:
        near, far = await connect(listener.address, listener.secret), await listener.accept()
    try:
        yield near, far
    finally:
        near.close()
        far.close()
        await asyncio.sleep(0.1)


def raises(_: Any) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("half", [b"", b"\0", struct.pack("!I", 1000), struct.pack("!I", 1000) + b"half"])
def test_a_peer_that_dies_in_mid_message_ends_the_connection_and_what_came_before_is_heard(half: bytes) -> None:
    async def main() -> None:
        async with two_ends() as (near, far):
            heard: list[Any] = []
            over: list[str] = []
            far.listen(heard.append, lambda: over.append("far"))
            near.send("whole")
            near._transport.write(half)  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert (heard, over) == (["whole"], [])
            near._transport.close()  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert (heard, over, far.closed) == (["whole"], ["far"], True)

    run_virtually(main())


@pytest.mark.parametrize(
    "garble",
    [lambda pipe: pipe.send("x"), lambda pipe: pipe._transport.write(struct.pack("!I", 7) + b"garbage")],
    ids=["a listener that raises", "bytes that are no message"],
)
def test_what_raises_where_it_is_heard_ends_the_connection_at_both_ends(
    garble: Callable[[FramedConnection], None],
) -> None:
    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        async with two_ends() as (near, far):
            over: list[str] = []
            far.listen(raises, lambda: over.append("far"))
            near.listen(raises, lambda: over.append("near"))
            garble(near)
            await asyncio.sleep(0.1)
            assert sorted(over) == ["far", "near"]
            assert (near.closed, far.closed, len(faults)) == (True, True, 1)
            near.send("nobody hears it")

    run_virtually(main())

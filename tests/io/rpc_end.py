"""One end of a connection between replicas, of whatever version is on the path: `python rpc_end.py replica|ingress`.

The replica writes its hello to stdout and serves until its stdin ends. The ingress says when it is ready, reads
that hello from stdin, makes calls over the connection, and prints what became of each as JSON.
"""

import asyncio
import contextlib
import json
import pickle
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from deployments.errors import AttemptFailed
from deployments.rpc.admission import Capacity
from deployments.rpc.in_flight import InFlightCounts
from deployments.rpc.pool import ConnectionPool
from deployments.rpc.server import ConnectionServer

FRAME, FRAMES = b"data: {}\n\n", 500
LONG = 3_000_000  # bytes of a text: more than one message takes, in either direction
SHARED = 256 * 1024  # the longest call that a replica without parts gets over a connection
under_way: set[str] = set()


async def run(verb: str, call: Mapping[str, Any], tell: object = None) -> AsyncGenerator[Any, None]:
    """What a provider does. Each call is named."""
    under_way.add(call["name"])
    try:
        if call["name"] == "broken":
            raise ZeroDivisionError("a bug")
        if verb == "chat":
            yield {"body": json.dumps({"text": call["text"], "others": len(under_way) - 1}).encode(), "usage": None}
            return
        for _ in range(FRAMES):
            yield FRAME
        if call["name"] == "left":
            await asyncio.Event().wait()
        yield {"usage": {"prompt_tokens": 7}, "tail": FRAME}
    finally:
        under_way.discard(call["name"])


async def replica() -> None:
    server = ConnectionServer(run, lambda: Capacity("replica", node="here"))
    async with contextlib.aclosing(server.serve("ingress", "here")) as said:
        sys.stdout.buffer.write(pickle.dumps(await anext(said)))
        sys.stdout.buffer.flush()
        with contextlib.suppress(StopAsyncIteration):
            await anext(said)


async def ingress() -> None:
    print("ready", flush=True)  # the replica listens for some seconds only
    hello = pickle.loads(sys.stdin.buffer.read())

    async def control_call() -> AsyncGenerator[Any, None]:
        yield hello
        await asyncio.Event().wait()

    pool = ConnectionPool("openai", control_call, InFlightCounts())
    for _ in range(1000):
        if (connection := pool.pick()) is not None:
            print(json.dumps(await answers(connection)), flush=True)
            return
        await asyncio.sleep(0.01)


async def answers(connection: Any) -> dict[str, Any]:
    def begin(verb: str, **call: Any) -> Any:
        pickled = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
        shared = len(pickled) <= SHARED or getattr(connection, "takes_parts", False)
        return connection.begin(verb, pickled) if shared else None

    whole = begin("chat", name="whole", text="Paris")
    long = begin("chat", name="long", text="x" * LONG)
    streams = [begin("stream", name=f"stream {n}") for n in range(3)]
    left = begin("stream", name="left")
    assert FRAME in await anext(left)
    found = {
        "whole": text_in(await whole.read_reply()),
        "long": None if long is None else len(text_in(await long.read_reply())),
        "streams": [await read(stream) for stream in streams],
        "broken": await broken(begin("chat", name="broken")),
    }
    await left.aclose()
    while json.loads((await begin("chat", name="last", text="").read_reply())["body"])["others"]:
        pass  # each of these calls is a turn of the replica, which is closing the stream that was left
    return found


def text_in(reply: Mapping[str, Any]) -> str:
    return str(json.loads(reply["body"])["text"])


async def read(stream: Any) -> list[Any]:
    """The number of its frames, and its last item without them."""
    frames, end = 0, {}
    while (item := await anext(stream, None)) is not None:
        frames += item.count(FRAME) if isinstance(item, bytes) else item["tail"].count(FRAME)
        end = {} if isinstance(item, bytes) else item["usage"]
    await stream.aclose()
    return [frames, end]


async def broken(stream: Any) -> str:
    try:
        return str((await stream.read_reply())["outcome"]["kind"])
    except AttemptFailed as error:
        return error.outcome.kind


if __name__ == "__main__":
    asyncio.run({"replica": replica, "ingress": ingress}[sys.argv[1]]())

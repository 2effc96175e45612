"""What a hostile client sends, in a process of its own: `python -m tests.bench.attacks NAME PORT SECONDS`.

A body passes all limits and is as bad as they allow. A hold is many connections that never come to their end. Prints
a line of JSON: how many were sent, the statuses of the answers, and when the last held connection was closed.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from deployments.ingress.body.bodies import MAX_BODY
from deployments.openai_api.sizes import MOST_MESSAGE_FIELDS, MOST_MESSAGES, MOST_PARTS, MOST_TOOLS
from deployments.strict_json.sliced import MOST_CONTAINERS, MOST_TEXT, MOST_VALUES
from tests.bench.scenarios import MODEL

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_ONE = [{"role": "user", "content": "x"}]
ROOM = 4096  # bytes for what is around


def _chat(messages: Any, **more: Any) -> bytes:
    return json.dumps(
        {"model": MODEL, "messages": messages, **more}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _text(unit: str) -> bytes:
    size = len(json.dumps(unit, ensure_ascii=False).encode()) - 2
    return _chat([{"role": "user", "content": unit * ((MAX_BODY - ROOM) // size)}])


def _deep() -> Any:
    value: Any = 0
    for _ in range(120):
        value = [value]
    return value


def _schema() -> Any:
    properties = {f"k{n}": {"type": "string"} for n in range(MOST_CONTAINERS - 100)}
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


BODIES: Mapping[str, Callable[[], bytes]] = {
    "one long text": lambda: _text("x"),
    "a text of escapes": lambda: _text("\n"),
    "a text of two-byte characters": lambda: _text("ж"),
    "a text with one emoji": lambda: _chat([{"role": "user", "content": "x" * (MOST_TEXT // 4 - ROOM) + "\U0001f600"}]),
    "messages": lambda: _chat([{"role": "user", "content": "x"}] * MOST_MESSAGES),
    "fields of messages": lambda: _chat([{**_ONE[0], **{f"x{n}": n for n in range(MOST_MESSAGE_FIELDS - 2)}}]),
    "parts": lambda: _chat([{"role": "user", "content": [{"type": "text", "text": "x"}] * MOST_PARTS}]),
    "calls of tools": lambda: _chat([{"role": "assistant", "tool_calls": [_CALL] * MOST_PARTS}, *_ONE]),
    "tools": lambda: _chat(_ONE, tools=[_TOOL] * MOST_TOOLS),
    "numbers": lambda: _chat(_ONE, metadata=[1] * (MOST_VALUES - 100)),
    "empty lists": lambda: _chat(_ONE, metadata=[[]] * (MOST_CONTAINERS - 100)),
    "empty objects": lambda: _chat(_ONE, metadata=[{}] * (MOST_CONTAINERS - 100)),
    "deep lists": lambda: _chat(_ONE, metadata=[_deep()] * (MOST_CONTAINERS // 130)),
    "too many values": lambda: b'{"a":[' + b"0," * ((MAX_BODY - ROOM) // 2) + b"0]}",
    "an unknown model and a million messages": lambda: (
        b'{"model":"none","messages":[' + b'{"role":"user"},' * ((MAX_BODY - ROOM) // 16) + b"0]}"
    ),
    "a schema": lambda: _chat(
        _ONE,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "a",
                "schema": {"properties": {f"k{n}": {"type": "string"} for n in range(80_000)}},
            },
        },
    ),
}


async def post_for(port: int, body: bytes, seconds: float) -> dict[str, Any]:
    """One after another, each on a connection of its own."""
    statuses: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(port, len(body)) + body)
        statuses[(await reader.readline()).decode()[9:12]] += 1
        writer.close()
    return {"sent": statuses.total(), "statuses": dict(statuses)}


def head(port: int, length: int) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    return "\r\n".join([*lines, "connection: close", f"content-length: {length}", "", ""]).encode()


async def slow_head(port: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n")
    while True:
        writer.write(b"x: y\r\n")
        await writer.drain()
        await asyncio.sleep(1)


async def slow_body(port: int, writer: asyncio.StreamWriter) -> None:
    writer.write(head(port, 1_000_000))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1)


async def endless_body(port: int, writer: asyncio.StreamWriter) -> None:
    writer.write(head(port, MAX_BODY))
    for _part in range(MAX_BODY // 65536 - 1):
        writer.write(b" " * 65536)
        await writer.drain()
    await asyncio.sleep(3600)


Feed = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
HOLDS: Mapping[str, tuple[int, Feed]] = {
    "slow heads": (500, slow_head),
    "slow bodies": (500, slow_body),
    "endless bodies": (50, endless_body),
}


async def hold(port: int, number: int, feed: Feed, seconds: float) -> dict[str, Any]:
    """So many connections at once, until the server has closed them or the time is over."""
    statuses: Counter[str] = Counter()
    closed: list[float] = []
    began = time.monotonic()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        feeding = asyncio.ensure_future(feed(port, writer))
        try:
            async with asyncio.timeout(seconds):
                line = await reader.readline()
                statuses[line.decode()[9:12] or "closed"] += 1
                while await reader.read(65536):
                    pass
            closed.append(time.monotonic() - began)
        except TimeoutError:
            statuses["open"] += 1
        except OSError:
            statuses["closed"] += 1
            closed.append(time.monotonic() - began)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(number)))
    return {"sent": number, "statuses": dict(statuses), "closed_after": max(closed, default=None)}


def main() -> None:
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if name in BODIES:
        found = asyncio.run(post_for(port, BODIES[name](), seconds))
    else:
        found = asyncio.run(hold(port, *HOLDS[name], seconds))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

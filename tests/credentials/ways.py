"""The ways to use a credential: each takes a provider and its fake, and fails where an answer is not as it should be.

`tests/credentials/test_ways.py` takes each case through all of them, and the table of docs/credentials.md has a column
for each.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from msgspec import structs

from deployments.errors import AttemptFailed
from deployments.providers.base import Call, Completed, End, Provider, complete_within, stream_within
from tests.fakes.server import FakeServer, Received, status

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}

Way = Callable[[Provider, Call, FakeServer], Awaitable[None]]


async def _whole(provider: Provider, call: Call) -> Any:
    done: Completed = await complete_within(provider, call)
    return orjson.loads(done.body)["choices"][0]


async def _streamed(provider: Provider, call: Call) -> tuple[bytes, Any]:
    """Return what was delivered, and whether it came to its end."""
    call, sent, item = structs.replace(call, body={**call.body, "stream": True}), b"", None
    async with contextlib.aclosing(stream_within(provider, call)) as items:
        async for item in items:
            sent += b"" if isinstance(item, End) else item.data
    return sent, item


async def whole(provider: Provider, call: Call, _: FakeServer) -> None:
    """A whole answer."""
    choice = await _whole(provider, call)
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


async def streamed(provider: Provider, call: Call, _: FakeServer) -> None:
    """A stream to its end."""
    sent, end = await _streamed(provider, call)
    assert b"Paris" in sent
    assert isinstance(end, End)


async def tools(provider: Provider, call: Call, _: FakeServer) -> None:
    """A call of a tool, whole and streamed."""
    call = structs.replace(call, body={**call.body, "tools": [TOOL]})
    choice = await _whole(provider, call)
    assert [called["function"]["name"] for called in choice["message"]["tool_calls"]] == ["weather"]
    sent, end = await _streamed(provider, call)
    assert b'"weather"' in sent
    assert isinstance(end, End)


async def errors(provider: Provider, call: Call, fake: FakeServer) -> None:
    """An overloaded server, and one that takes the credential no more, each whole and streamed."""

    async def kinds() -> list[str]:
        found = []
        for ask in (_whole, _streamed):
            with pytest.raises(AttemptFailed) as caught:
                await ask(provider, call)
            found.append(caught.value.outcome.kind)
        return found

    fake.script += [status(429), status(429)]
    assert await kinds() == ["throttled", "throttled"]
    [door] = fake.rules
    fake.rules = (lambda asked: door(_without_credential(asked)),)
    assert await kinds() == ["credential", "credential"]
    assert len(fake.refused) == 2
    fake.rules, fake.refused = (door,), []


def _without_credential(asked: Any) -> Any:
    """Return the same request as of somebody whose credential is not known to the vendor."""
    gone = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "x-amz-security-token")
    return replace(asked, headers={name: value for name, value in asked.headers.items() if name not in gone})


async def expiry(provider: Any, call: Call, fake: FakeServer, *, ahead: float = 0) -> None:
    """A credential that ends: the next one is fetched, and calls go with it. `ahead` is how far our clock is then.

    On a machine that stands still, one of a few seconds may have ended before it is there: there is another soon.
    """
    until, sent = time.monotonic() + 60, set[str]()
    while time.monotonic() < until:
        with contextlib.suppress(AttemptFailed):
            await _whole(provider, call)
        sent |= {_credential(received) for received in fake.received[-1:]}
        if len(sent) > 1:
            return
        provider.credential._clock = lambda: time.time() + ahead
        await asyncio.sleep(0.1)
    raise AssertionError("no other credential was sent within a minute")


def _credential(received: Received) -> str:
    headers = received.headers
    # A signature of AWS differs each time, and its token does not.
    return headers.get("x-amz-security-token") or headers["authorization"]


WAYS: Mapping[str, Way] = {"whole": whole, "stream": streamed, "tools": tools, "errors": errors}

"""A request that is over is freed at once: it waits for no search for garbage, which comes seldom, and may be large."""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from actors.breaker.outcomes import Outcome
from tests.clock import run_virtually
from tests.unit.test_doors import MESSAGE, RESPOND
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_hedging import ON as HEDGED
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST, Script, World

CHAT = "/v1/chat/completions"
STREAM = {**REQUEST, "stream": True}
CUT = Outcome("server_error", content=True)
REQUESTS = 5
# What is asked, and what each provider does.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Script]]] = {
    "whole": (CHAT, REQUEST, {}),
    "stream": (CHAT, STREAM, {}),
    "stream of one provider": (CHAT, {**STREAM, "model": "solo"}, {}),
    "stream with its usage": (CHAT, {**STREAM, "stream_options": {"include_usage": True}}, {}),
    "message": ("/v1/messages", MESSAGE, {}),
    "stream of a message": ("/v1/messages", {**MESSAGE, "stream": True}, {}),
    "response": ("/v1/responses", RESPOND, {}),
    "stream of a response": ("/v1/responses", {**RESPOND, "stream": True}, {}),
    "the second answers": (CHAT, REQUEST, {"aws": Script([SERVER_ERROR])}),
    "the second streams": (CHAT, STREAM, {"aws": Script([SERVER_ERROR])}),
    "nobody answers": (CHAT, REQUEST, {name: Script([SERVER_ERROR]) for name in ARGS["providers"]}),
    "nobody streams": (CHAT, STREAM, {name: Script([SERVER_ERROR]) for name in ARGS["providers"]}),
    "a stream breaks off": (CHAT, STREAM, {"aws": Script([CUT], after=1)}),
    "a stream falls silent": (CHAT, STREAM, {"aws": Script(pace=600.0)}),
    "a silent provider": (CHAT, REQUEST, {"aws": Script(seconds=600.0)}),
    "a silent stream": (CHAT, STREAM, {"aws": Script(seconds=600.0)}),
    "a bad request": (CHAT, {**REQUEST, "messages": 7}, {}),
}


@contextlib.contextmanager
def without_searches() -> Iterator[list[Any]]:
    """Yield a list, and put into it what only a search for garbage finds afterwards."""
    gc.collect()
    gc.disable()
    found: list[Any] = []
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def ours(garbage: list[Any]) -> Counter[str]:
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in garbage)
    return Counter(name for name in names if name.startswith(("actors.", "deployments.")))


@pytest.mark.parametrize("hedging", [False, True], ids=["one leg", "hedged"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_request_that_is_over_waits_for_a_search(case: str, hedging: bool) -> None:
    path, body, scripts = CASES[case]

    async def main() -> Counter[str]:
        async with client(HEDGED if hedging else ARGS) as (http, w):
            w.hop.providers |= scripts
            await asked(http, w, path, body)  # what is made once
            with without_searches() as garbage:
                for _ in range(REQUESTS):
                    await asked(http, w, path, body)
            return ours(garbage)

    assert run_virtually(main()) == {}


async def asked(http: httpx2.AsyncClient, w: World, path: str, body: dict[str, Any]) -> None:
    async with http.stream("POST", path, json=body) as response:
        async for _ in response.aiter_bytes():
            pass
    await w.settle()

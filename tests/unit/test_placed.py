"""A provider's replica has an adapter for each place, and keeps the credential of each fresh by itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from deployments.errors import failed
from deployments.openai_api.json_types import JsonDict
from deployments.providers.base import Call, Completed, call_dict
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.http.timing import note_sent
from deployments.providers.kinds import KINDS, PLAIN_NAMES, ProviderKind
from deployments.providers.time_limits import TimeLimits
from deployments.replica import ProviderReplica
from tests.unit.test_credentials import Source, renewed, virtually

TOKENS: dict[str, Renewed[str]] = {}


class WithToken:
    """A provider that answers with its token, once its server has not refused it."""

    def __init__(self, credential: Renewed[str]):
        self.credential = credential
        self.refusals = 0

    def streams_whole(self, call: Call) -> bool:
        return False

    async def complete(self, call: Call) -> Completed:
        note_sent()
        if self.refusals:
            self.refusals -= 1
            raise failed("credential", status=401)
        return Completed((self.credential.usable() or "none").encode(), None)

    async def close(self) -> None:
        pass


def build(settings: Any, connect: float) -> WithToken:
    return WithToken(TOKENS[settings.api_key_env])


class Gauges:
    def __init__(self) -> None:
        self.age: dict[tuple[str, ...], float] = {}

    def add(self, name: str, labels: tuple[str, ...] = (), amount: float = 1.0) -> None:
        pass

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        if name == "breakwater_credential_age_seconds":
            self.age[labels] = value

    async def run(self, sample: Callable[[], None]) -> None:
        while True:
            sample()
            await asyncio.sleep(1)


def call_at(place: str) -> Any:
    call = call_dict({"messages": []}, "m", "row", TimeLimits(1, 1, 1, 1))
    return {**call, "place": place}


@virtually
async def test_each_place_has_a_credential_that_is_renewed_and_doubted_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two, gauges = Source(life=7200.0), Source(ConnectionError("refused"), 0.0), Gauges()
    async with renewed(one) as first, renewed(two) as second:
        monkeypatch.setitem(KINDS, "openai", ProviderKind("openai", __name__, "example", tool_names=PLAIN_NAMES))
        for name, token in (("KEY_A", first), ("KEY_B", second)):
            monkeypatch.setitem(TOKENS, name, token)
            monkeypatch.setenv(name, "set")
        keys = [{"name": name, "api_key_env": f"KEY_{name.upper()}"} for name in "abc"]
        providers = {"openai": {"kind": "openai", "places": keys}}
        config: JsonDict = {"providers": providers, "models": {"default": {"openai": "m"}}}
        made: Any = ProviderReplica("openai", config, meter=lambda: gauges)
        await asyncio.sleep(61.5)
        assert gauges.age == {("openai", "a"): 61, ("openai", "b"): 60}
        assert (await made.complete(call_at("a")))["body"] == b"token-1"
        made._provider._places["a"]._inner._inner.refusals = 1
        assert (await made.complete(call_at("a")))["outcome"]["kind"] == "credential"
        await asyncio.sleep(1)
        assert (await made.complete(call_at("a")))["body"] == b"token-2"
        assert (await made.complete(call_at("b")))["body"] == b"token-1"
        # A place whose key is not there is no reason to leave its provider out.
        assert (await made.complete(call_at("c")))["outcome"]["kind"] == "credential"
        made._metering.cancel()

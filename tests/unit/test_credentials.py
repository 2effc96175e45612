"""Credentials that expire: when they are fetched again, and that no call waits for it. All on a virtual clock."""

import asyncio
import functools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deployments.errors import AttemptFailed
from deployments.providers.credentials.renewed import FETCH_SECONDS, WAIT_SECONDS, Renewed
from deployments.providers.credentials.schedule import LEAD, LONGEST_PAUSE, Fresh, Schedule
from deployments.providers.kinds import KINDS, PLAIN_NAMES, ProviderKind
from deployments.replica import ProviderReplica
from deployments.secrecy import hide_secrets
from tests.clock import run_virtually

HOUR = 3600.0
EMPTY: Schedule[str] = Schedule()


def now() -> float:
    return asyncio.get_running_loop().time()


class Source:
    """A token server. `answers` says how each fetch goes: seconds until it answers, or the error that it raises.

    The last one holds for all later fetches. Tokens live for `life` seconds.
    """

    def __init__(self, *answers: float | Exception, life: float = HOUR):
        self.answers, self.life = list(answers) or [0.0], life
        self.asked_at: list[float] = []
        self.told = 0

    async def fetch(self) -> Fresh[str]:
        self.asked_at.append(now())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer)
        self.told += 1
        return Fresh(f"token-{self.told}", now() + self.life)


@asynccontextmanager
async def renewed(source: Source, first: Fresh[str] | None = None) -> AsyncIterator[Renewed[str]]:
    token = Renewed("openai", source.fetch, first=first, clock=now, share=lambda: 1.0)
    try:
        yield token
    finally:
        await token.close()


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        run_virtually(test(**fixtures))

    return run


async def seconds(work: Awaitable[object]) -> float:
    began = now()
    await work
    return now() - began


@virtually
async def test_a_token_server_that_hangs_for_30_seconds_makes_none_of_1000_calls_late() -> None:
    source = Source(0.2, 30.0, life=600)
    async with renewed(source) as token:
        assert await seconds(token.get()) == pytest.approx(0.2)  # there is none yet
        late, used = [], set()
        for _ in range(1000):
            await asyncio.sleep(3)
            took = await seconds(token.get())
            used.add(await token.get())
            late += [took] if took else []
        assert late == []
        assert len(used) >= 3, "the token was renewed while the calls went on"
        assert len(source.asked_at) >= 5


@virtually
async def test_a_token_server_that_is_away_for_minutes_costs_nothing_while_the_token_holds() -> None:
    away = [ConnectionError("refused")] * 12
    source = Source(0.0, *away, 0.0)
    async with renewed(source) as token:
        token.start()
        await asyncio.sleep(1)
        for _ in range(2 * 3600):
            assert await seconds(token.get()) == 0
            await asyncio.sleep(1)
        assert source.told >= 2
        pauses = [b - a for a, b in zip(source.asked_at[1:13], source.asked_at[2:14], strict=True)]
        assert pauses[:6] == pytest.approx([1, 2, 4, 8, 16, LONGEST_PAUSE])
        assert set(pauses[6:]) == {LONGEST_PAUSE}
        assert token.report().failures == 12


@virtually
async def test_a_token_is_renewed_without_any_call() -> None:
    source = Source()
    async with renewed(source) as token:
        token.start()
        await asyncio.sleep(10 * HOUR)
        assert await seconds(token.get()) == 0
        assert source.told == 1 + int(10 * HOUR / (HOUR - LEAD))


@virtually
async def test_many_calls_share_one_fetch() -> None:
    source = Source(0.5)
    async with renewed(source) as token:
        assert set(await asyncio.gather(*(token.get() for _ in range(100)))) == {"token-1"}
        assert len(source.asked_at) == 1


@virtually
async def test_a_call_that_goes_away_ends_no_fetch() -> None:
    source = Source(0.5)
    async with renewed(source) as token:
        gone = asyncio.create_task(token.get())
        await asyncio.sleep(0.1)
        gone.cancel()
        assert await token.get() == "token-1"
        assert len(source.asked_at) == 1


@virtually
async def test_a_call_without_any_token_waits_for_a_fetch_for_five_seconds() -> None:
    source = Source(math.inf)
    async with renewed(source) as token:
        began = now()
        with pytest.raises(AttemptFailed) as caught:
            await token.get()
        assert caught.value.outcome.kind == "connect"
        assert now() - began == WAIT_SECONDS


@virtually
async def test_a_call_without_any_token_does_not_wait_for_the_pause_after_a_failure() -> None:
    source = Source(ConnectionError("refused"))
    async with renewed(source) as token:
        for _ in range(2):
            began = now()
            with pytest.raises(AttemptFailed, match="no credential could be fetched") as caught:
                await token.get()
            assert caught.value.outcome.kind == "connect"
            assert "refused" not in str(caught.value), "its reason may name accounts"
            assert now() == began
        assert len(source.asked_at) == 1


@virtually
async def test_a_fetch_that_never_ends_is_given_up_and_tried_again() -> None:
    source = Source(math.inf, 0.0)
    async with renewed(source) as token:
        token.start()
        await asyncio.sleep(FETCH_SECONDS + 2)
        assert token.usable() == "token-1"
        assert token.report().failures == 1


@virtually
async def test_a_source_that_keeps_its_token_until_five_minutes_before_its_end_is_asked_a_few_times() -> None:
    """As Google's metadata server and Azure's do (Google Cloud, access tokens of the metadata server)."""
    asked: list[float] = []
    held = Fresh("old", now() + HOUR)

    async def fetch() -> Fresh[str]:
        nonlocal held
        asked.append(now())
        if held.expires_at - now() <= 300:
            held = Fresh("new", now() + HOUR)
        return held

    token = Renewed("google", fetch, clock=now, share=lambda: 1.0)
    token.start()
    await asyncio.sleep(HOUR + 1)
    assert token.usable() == "new"
    assert len(asked) == 3
    await token.close()


@virtually
async def test_a_source_that_tells_what_has_expired_has_failed() -> None:
    source = Source(life=-5)
    async with renewed(source, Fresh("held", now() + 10)) as token:
        await asyncio.sleep(9)
        assert token.usable() == "held"
        await asyncio.sleep(0.5)
        assert token.report().failures == 1
        assert token.usable() == "held"


@virtually
async def test_a_clock_that_jumps_past_the_end_is_noticed_by_the_next_call() -> None:
    """A laptop that slept: timers have not fired, and the token has expired."""
    source, jump = Source(life=HOUR), 0.0
    token = Renewed("openai", source.fetch, clock=lambda: now() + jump, share=lambda: 1.0)
    assert await token.get() == "token-1"
    jump = 2 * HOUR
    source.life = 3 * HOUR
    assert await token.get() == "token-2"
    await token.close()


@virtually
async def test_a_credential_that_a_vendor_refuses_is_fetched_anew_and_not_at_each_refusal() -> None:
    source = Source(0.0, 5.0, 0.0)
    async with renewed(source) as token:
        assert await token.get() == "token-1"
        token.doubt()
        await asyncio.sleep(60)
        assert len(source.asked_at) == 1, "it was new when it was refused"
        for _ in range(10):
            token.doubt()
        assert await seconds(token.get()) == 0, "it may hold all the same"
        await asyncio.sleep(6)
        assert token.usable() == "token-2"
        token.doubt()
        await asyncio.sleep(6)
        assert len(source.asked_at) == 2


@virtually
async def test_the_age_and_what_is_left_are_reported() -> None:
    async with renewed(Source()) as token:
        assert token.report().age is None
        await token.get()
        await asyncio.sleep(60)
        assert (token.report().age, token.report().left) == (60, HOUR - 60)


def test_a_failure_and_its_end_are_logged_without_any_secret(caplog: pytest.LogCaptureFixture) -> None:
    secret = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0"

    async def main() -> None:
        async with renewed(Source(ValueError(f"invalid_client: the assertion '{secret}' is wrong"), 0.0)) as token:
            token.start()
            await asyncio.sleep(5)

    with caplog.at_level(logging.INFO):
        run_virtually(main())
    words = [record.getMessage() for record in caplog.records]
    assert "openai: no new credential: ValueError: invalid_client" in words[0]
    assert "There is none" in words[0]
    assert "renewed again, after 1 failures" in words[1]
    assert secret not in "".join(words)


def test_what_may_be_a_secret_is_hidden_in_a_text_of_others() -> None:
    assert hide_secrets("AADSTS7000215: Invalid client secret") == "AADSTS7000215: Invalid client secret"
    assert hide_secrets("key sk-abcdef, and more") == "key (hidden), and more"


def test_a_credential_that_never_ends_is_never_due() -> None:
    schedule = EMPTY.after_success(0.0, Fresh("key"), 1.0)
    assert not schedule.is_due(1e12)
    assert schedule.value(1e12) == "key"


@pytest.mark.parametrize(("life", "lead"), [(12 * HOUR, LEAD), (HOUR, LEAD), (840.0, 280.0), (60.0, 20.0)])
def test_the_lead_is_a_quarter_of_an_hour_or_a_third_of_a_short_life(life: float, lead: float) -> None:
    late = EMPTY.after_success(0.0, Fresh("x", life), 1.0)
    early = EMPTY.after_success(0.0, Fresh("x", life), 0.0)
    assert late.due_at == life - lead
    assert early.due_at == life - 0.8 * lead


class Figures:
    """A meter that remembers. Each `run` samples once a second."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.gauges: dict[str, float] = {}

    def add(self, name: str, labels: tuple[str, ...] = (), amount: float = 1.0) -> None:
        assert labels == ("openai", "")
        self.counts[name] = self.counts.get(name, 0.0) + amount

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        assert labels == ("openai", "")
        self.gauges[name] = value

    async def run(self, sample: Callable[[], None]) -> None:
        while True:
            sample()
            await asyncio.sleep(1)


class WithToken:
    """A provider whose credential expires."""

    def __init__(self, credential: Renewed[str]):
        self.credential = credential


TOKENS: dict[str, Renewed[str]] = {}


def build(settings: Any, connect: float) -> WithToken:
    return WithToken(TOKENS[settings.kind])


@virtually
async def test_a_replica_renews_its_providers_credential_before_any_call_and_counts_its_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, figures = Source(ConnectionError("refused"), 0.0), Figures()
    async with renewed(source) as token:
        monkeypatch.setitem(KINDS, "openai", ProviderKind("openai", __name__, "example", tool_names=PLAIN_NAMES))
        monkeypatch.setitem(TOKENS, "openai", token)
        made = ProviderReplica("openai", CONFIG, meter=lambda: figures)
        await asyncio.sleep(61.5)
        assert token.usable() == "token-1"
        assert figures.counts == {"breakwater_credential_failures_total": 1}
        assert figures.gauges["breakwater_credential_age_seconds"] == 60
        assert figures.gauges["breakwater_credential_left_seconds"] == HOUR - 60
        assert made._metering is not None
        made._metering.cancel()


CONFIG = {"providers": {"openai": {"kind": "openai"}}, "models": {"default": {"openai": "m"}}}

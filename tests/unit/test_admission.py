"""What is held for a request is given back on every way that it can end, and what has no price serves no budget."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limit, Limits
from deployments.config.application import parse
from deployments.config.ledger import Price
from deployments.config.places import Tier
from deployments.config.resolved import ResolvedConfig
from deployments.config.settings import Auth
from deployments.errors import BadRequest, LimitReached, NoAnswer, NotPriced, UnknownModel
from deployments.openai_api.chat import Request, check_request
from deployments.service.auth import Authenticator
from deployments.usage.budget import Budget
from deployments.usage.caller import Caller, check_caller
from deployments.usage.prices import PriceList, rates_of
from deployments.usage.rates import Tokens
from deployments.usage.worst_case import Route, worst_case
from tests.bench.ledger import hear
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import ARGS, REQUEST, Script

ACME = Caller("http", "acme")
LIMIT = Limit(1000, 10**9, 10**15)
DEAR, CHEAP = rates_of(Price(input=8, output=8)), rates_of(Price(input=1, output=1))


def limited(
    test: Callable[[Ledgered], Awaitable[None]], limit: Limit = LIMIT, prices: Any = None, **scripts: Script
) -> None:
    """Run a test in which acme has a limit and the ledger has answered."""

    async def with_limit(x: Ledgered) -> None:
        x.link.budget = Budget(Limits({"tenant:acme": limit}))
        if prices is not None:
            x.link.prices = prices
        hear(x.link)
        await test(x)

    with_ledger(with_limit, **scripts)


def held(x: Ledgered) -> list[int]:
    """Return what is held of requests, tokens and cost."""
    (standing,) = x.link.budget._standings.values()
    return [share.held for share in standing.shares]


def request(**fields: Any) -> Request:
    return check_request({**REQUEST, **fields})


async def complete(x: Ledgered, **fields: Any) -> Any:
    return await x.w.service.complete(request(**fields), x.w.service.deadline(), ACME)


async def stream(x: Ledgered) -> Any:
    return await x.w.service.stream(request(stream=True), x.w.service.deadline(), ACME)


def test_what_a_request_may_use_is_held_while_it_is_under_way() -> None:
    async def test(x: Ledgered) -> None:
        answer = await stream(x)
        prompt, written = 5, 4096
        assert held(x) == [0, prompt + written, prompt * 2000 + written * 8000]
        frames = answer.frames()
        await anext(frames)
        assert held(x)[1] == prompt + written
        assert [data async for data in frames]
        assert held(x) == [0, 0, 0]
        await answer.close()
        assert held(x) == [0, 0, 0]

    limited(test)


async def _answered(x: Ledgered) -> None:
    await complete(x)


async def _failed(x: Ledgered) -> None:
    for script in x.w.hop.providers.values():
        script.ends = [SERVER_ERROR]
    with pytest.raises(NoAnswer):
        await complete(x)


async def _unknown(x: Ledgered) -> None:
    with pytest.raises(UnknownModel):
        await complete(x, model="nope")


async def _cancelled(x: Ledgered) -> None:
    x.w.provider("aws").seconds = 5.0
    task = asyncio.create_task(complete(x))
    await asyncio.sleep(1)
    assert held(x)[1] > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _left(x: Ledgered) -> None:
    answer = await stream(x)
    async for _ in answer.frames():
        break
    await answer.close()
    await answer.close()


async def _broken_off(x: Ledgered) -> None:
    script = x.w.provider("aws")
    script.after, script.ends = 1, [SERVER_ERROR]
    answer = await stream(x)
    assert b"stream_interrupted" in b"".join([data async for data in answer.frames()])
    await answer.close()


async def _failed_over(x: Ledgered) -> None:
    x.w.provider("aws").ends = [SERVER_ERROR]
    assert (await complete(x)).target == "openai/gpt"


async def _rejected(x: Ledgered) -> None:
    x.w.provider("aws").ends = [Outcome("content_filter", status=400)]
    with pytest.raises(NoAnswer):
        await complete(x)


async def _crashed(x: Ledgered) -> None:
    def explode(*_: Any) -> Any:
        raise ZeroDivisionError

    x.w.service.breaker.draw = explode  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await complete(x)


async def _never_begun(x: Ledgered) -> None:
    def explode(**_: Any) -> Any:
        raise ZeroDivisionError

    x.link.begin = explode  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await complete(x)


@pytest.mark.parametrize(
    "way",
    [
        _answered, _failed, _unknown, _cancelled, _left, _broken_off, _failed_over, _rejected, _crashed, _never_begun,
    ],
)  # fmt: skip
def test_whatever_ends_a_request_nothing_is_held_for_it(way: Callable[[Ledgered], Awaitable[None]]) -> None:
    async def test(x: Ledgered) -> None:
        await way(x)
        assert held(x) == [0, 0, 0]

    limited(test)


def test_what_is_held_is_for_the_longest_answer_that_the_request_allows() -> None:
    body = {"messages": [{"content": "x" * 384}]}
    route = [Route("gpt", CHEAP)]
    assert worst_case(body, route, 4096)[0] == 100 + 4096
    assert worst_case({**body, "max_tokens": 10}, route, 4096)[0] == 110
    assert worst_case({**body, "max_completion_tokens": 20, "n": 3}, route, 4096)[0] == 160
    assert worst_case({**body, "max_tokens": 10**15}, [Route("gpt", CHEAP, 32_768)], 4096)[0] == 100 + 32_768
    assert worst_case({"input": "x" * 400}, route, 4096) == (100, 100_000)


def test_what_is_held_is_for_the_dearest_target_of_the_row() -> None:
    body = {"messages": [{"content": "x" * 384}], "max_tokens": 100}
    assert worst_case(body, [Route("a", CHEAP), Route("b", DEAR)], 4096) == (200, 1_600_000)
    assert worst_case(body, [Route("b", DEAR, 10), Route("a", CHEAP), Route("c")], 4096) == (200, 880_000)
    assert worst_case(body, [Route("b", DEAR, window=50)], 4096) == (150, 1_200_000)


def test_an_image_is_held_as_each_target_counts_it() -> None:
    url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU"
    body = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": url}}]}], "max_tokens": 1}
    each = [worst_case(body, [Route(model, CHEAP)], 4096)[0] for model in ("gpt-4.1", "claude-sonnet-4-5")]
    assert each[0] != each[1]
    assert worst_case(body, [Route("gpt-4.1", CHEAP), Route("claude-sonnet-4-5", CHEAP)], 4096)[0] == max(each)


def test_who_is_named_without_a_limit_has_none() -> None:
    async def test(x: Ledgered) -> None:
        x.link.budget = Budget(Limits({"tenant:acme": Limit()}, {"tenant": Limit(1)}))
        for _ in range(3):
            await complete(x)

    with_ledger(test)


HAIKU = PriceList({"haiku": Price(input=1, output=5)})


def test_a_target_without_a_price_is_passed_over_for_who_has_a_budget_and_the_trail_says_so() -> None:
    async def test(x: Ledgered) -> None:
        x.w.provider("aws").ends = [SERVER_ERROR]
        with pytest.raises(NoAnswer) as caught:
            await complete(x)
        outcomes = {a["provider"]: a["outcome"] for a in caught.value.attempts}
        assert outcomes["aws"] == "server_error"
        assert "no price" in outcomes["openai"]
        assert x.w.provider("openai").calls == x.w.provider("local").calls == 0
        other = await x.w.service.complete(request(), x.w.service.deadline(), Caller("http", "bolt"))
        assert other.target == "openai/gpt"

    limited(test, prices=HAIKU)


@pytest.mark.parametrize("model", ["openai/gpt-5-pro", "openai/GPT", "openai/gpt-2025-01-01", "aws/eu.haiku", "solo"])
def test_a_pinned_target_without_a_price_is_refused_by_name_for_who_has_a_budget(model: str) -> None:
    async def test(x: Ledgered) -> None:
        with pytest.raises(NotPriced) as caught:
            await complete(x, model=model)
        error = caught.value
        assert (error.status, error.code, error.param) == (403, "model_not_priced", "model")
        assert "limits.unpriced" in str(error)
        assert ("openai/gpt" if model == "solo" else model) in str(error)
        assert held(x) == [0, 0, 0]
        assert sum(script.calls for script in x.w.hop.providers.values()) == 0

    limited(test, prices=HAIKU)


def test_a_caller_without_a_budget_may_pin_what_has_no_price() -> None:
    async def test(x: Ledgered) -> None:
        assert (await complete(x, model="openai/gpt-5-pro")).target == "openai/gpt-5-pro"

    limited(test, Limit(10, 10**9), HAIKU)


@pytest.mark.parametrize(("unpriced", "cost"), [("free", None), (Price(input=100, output=100), 200_000)])
def test_the_config_may_say_how_a_target_without_a_price_counts(unpriced: Any, cost: int | None) -> None:
    async def test(x: Ledgered) -> None:
        assert (await complete(x, model="openai/gpt-5-pro")).target == "openai/gpt-5-pro"
        assert x.link.prices.cost("openai", "gpt-5-pro", Tokens(1, 1)) == cost

    limited(test, prices=PriceList({}, unpriced=unpriced))


def test_the_local_model_costs_nobody_anything_without_a_price() -> None:
    prices = PriceList({}, unpriced=Price(input=1, output=1), ours=["local"])
    assert prices.covers("local", "smol")
    assert prices.cost("local", "smol", Tokens(10, 10)) is None
    assert PriceList({}, ours=["local"]).covers("local", "smol")
    assert not PriceList({}, ours=["local"]).covers("openai", "smol")


def test_a_limit_that_is_used_up_is_told_with_its_code() -> None:
    async def test(x: Ledgered) -> None:
        answer = await stream(x)
        with pytest.raises(LimitReached) as caught:
            await complete(x)
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "rate_limit_exceeded", 1.0)
        assert "under way" in str(caught.value)
        await answer.close()

    limited(test, Limit(tokens_per_minute=100))


def warnings(limits: Mapping[str, Any], prices: Mapping[str, Any]) -> list[str]:
    config = parse({**ARGS, "limits": limits, "prices": prices})
    tiers = tuple(Tier(name, provider.kind, None) for name, provider in config.providers.items())
    return ResolvedConfig(config, tiers).warnings()


def test_a_row_that_no_budget_can_use_is_a_warning() -> None:
    budgets, price = {"each_key": {"monthly_cost": 5}}, {"input": 1, "output": 5}
    (warning,) = warnings(budgets, {"haiku": price})
    assert "solo" in warning
    assert "limits.unpriced" in warning
    assert warnings({**budgets, "unpriced": "free"}, {}) == []
    assert warnings({"each_key": {"requests_per_minute": 5}}, {}) == []
    assert warnings(budgets, {"openai/gpt": price}) == []


@pytest.mark.parametrize("name", ["acme\0", "ac\ud800me"])
def test_a_name_that_the_ledger_would_write_otherwise_is_refused(name: str) -> None:
    for caller in (Caller("handle", name), Caller("handle", None, name)):
        with pytest.raises(BadRequest):
            check_caller(caller, None)


def test_keys_of_one_name_are_accounts_of_their_own_tenants() -> None:
    environ = {"KEYS": "k1:acme:prod,k2:globex:prod,k3::prod,k4:acme:prod,k5:acme:test"}
    known = Authenticator(Auth(api_keys_env="KEYS"), environ)
    names = [key.name for n in range(1, 6) if (key := known.key(f"Bearer k{n}")) is not None]
    assert names == ["acme:prod", "globex:prod", "prod", "acme:prod", "test"]

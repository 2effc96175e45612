"""What a server refuses of our own words is put into others: a bounded number of times, and remembered if it helped."""

import contextlib
import itertools
import json
from collections.abc import Iterator

import pytest
from msgspec import structs

from deployments.errors import AttemptFailed
from deployments.providers.base import Completed, Provider
from deployments.providers.http.timing import begin_timing
from deployments.providers.renaming.tool_names import WithToolNames
from tests.fakes.vendors import Asked, Refusal, Rule
from tests.providers.conftest import Bench, cloud

TOLD = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = cloud("openai")
    yield made
    assert made.fake is not None
    made.fake.stop()


def refusal(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}})


def no_developer(asked: Asked) -> Refusal | None:
    return refusal("role: unknown variant `developer`") if asked.body["messages"][0]["role"] == "developer" else None


def no_stop(asked: Asked) -> Refusal | None:
    return refusal("Unsupported parameter: 'stop' is not supported", "stop") if "stop" in asked.body else None


def nothing(_: Asked) -> Refusal | None:
    return refusal("No.")


def whatever(_: Asked) -> Refusal | None:
    return refusal("role: unknown variant `developer`")


def asked_twice(bench: Bench, *rules: Rule, then: tuple[Rule, ...] | None = None) -> list[int]:
    """Return how many calls the server got for each of two requests of one provider. `then` are its rules for both."""
    assert bench.fake is not None
    fake, counts = bench.fake, list[int]()

    async def work(provider: Provider) -> None:
        for one in (rules, rules if then is None else then):
            fake.reset()
            fake.rules = one
            with contextlib.suppress(AttemptFailed):
                await provider.complete(structs.replace(bench.call(messages=TOLD, stop=["END"]), model="gpt-5-x"))
            counts.append(len(fake.received))

    bench.run(work)
    return counts


def test_words_that_a_server_took_are_used_from_the_beginning(bench: Bench) -> None:
    assert asked_twice(bench, no_developer, no_stop) == [3, 1]


def test_words_that_helped_nothing_are_not_remembered(bench: Bench) -> None:
    assert asked_twice(bench, whatever, then=(no_developer,)) == [2, 2]


def test_words_are_not_remembered_where_a_gateway_numbers_each_refusal(bench: Bench) -> None:
    numbers = itertools.count(20261129)

    def numbered(_: Asked) -> Refusal | None:
        return refusal(f"role: unknown variant `developer` (request id: {next(numbers)}-a)")

    assert asked_twice(bench, numbered, then=(no_developer,)) == [2, 2]


def test_words_after_which_a_server_refuses_something_else_are_remembered(bench: Bench) -> None:
    assert asked_twice(bench, no_developer, nothing, then=(no_developer,)) == [2, 1]


def test_a_server_is_asked_again_no_more_often_than_the_call_allows(bench: Bench) -> None:
    fake = bench.fake
    assert fake is not None
    fake.rules = (no_developer, no_stop)

    async def work(provider: Provider) -> int:
        timing = begin_timing()
        with pytest.raises(AttemptFailed):
            await provider.complete(structs.replace(bench.call(messages=TOLD, stop=["END"]), model="gpt-5-x", again=1))
        return timing.as_dict().get("again", 0)

    assert (bench.run(work), len(fake.received)) == (1, 2)


@pytest.mark.parametrize("kind", ["openai", "bedrock", "google", "anthropic"])
def test_a_vendor_gets_a_name_that_it_takes_and_the_client_its_own(kind: str) -> None:
    from deployments.providers.kinds import KINDS

    made, rule = cloud(kind), KINDS[kind].tool_names
    assert made.fake is not None
    assert rule is not None
    tool = {"type": "function", "function": {"name": "files read", "parameters": {"type": "object", "properties": {}}}}

    async def work(provider: Provider) -> Completed:
        return await WithToolNames(provider, rule).complete(made.call(tools=[tool], tool_choice="required"))

    try:
        answer = json.loads(made.run(work).body)
        sent = json.dumps(made.fake.received[-1].body)
    finally:
        made.fake.stop()
    assert rule.name_for("files read") in sent
    assert "files read" not in sent
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "files read"

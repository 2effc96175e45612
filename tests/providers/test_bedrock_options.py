"""What goes to Bedrock beside a chat: ARNs under names, guardrails, tiers, latency, who asks. The whole application,
over a fake that validates by botocore's service model."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest

from deployments.config.application import parse
from deployments.errors import ConfigError, NoAnswer
from deployments.ingress.http import build_http_api
from deployments.openai_api.chat import check_request
from deployments.openai_api.embeddings import check_embedding_request
from deployments.providers.bedrock.options import without_accounts
from deployments.telemetry.explain import explain
from deployments.usage.caller import Caller
from tests.fakes.bedrock_wire import BLOCKED, TOPIC, BedrockWire, event
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer, Received
from tests.fakes.vendors import Asked, Refusal, Rule, bedrock, bedrock_options
from tests.providers.whole_app import whole_app
from tests.unit.world import World

ACCOUNT = "123456789012"
ARN = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:application-inference-profile/a1b2c3d4e5f6"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
OTHER = "The other answers."


@pytest.fixture
def aws() -> Iterator[FakeServer]:
    with_words = FakeServer(BedrockWire(), ["Paris."])
    yield with_words
    with_words.stop()


@pytest.fixture
def other() -> Iterator[FakeServer]:
    made = FakeServer(OpenAIWire(), [OTHER])
    yield made
    made.stop()


def args_for(aws: FakeServer, other: FakeServer | None = None, **settings: Any) -> dict[str, Any]:
    bedrock = {
        "kind": "bedrock",
        "region": "us-east-1",
        "endpoint_url": aws.url,
        "whole_as_stream": "never",
        **settings,
    }
    more = {} if other is None else {"other": {"kind": "openai", "base_url": f"{other.url}/v1"}}
    named = next(iter(settings.get("arns", {})), "global.anthropic.claude-haiku-4-5-20251001-v1:0")
    return {"providers": {"aws": bedrock, **more}, "models": {"chat": {"aws": named, **dict.fromkeys(more, "gpt-4o")}}}


def in_app(args: dict[str, Any], test: Callable[[World], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with whole_app(args) as w:
            return await test(w)

    return asyncio.run(main())


class Answered:
    """What a client and an operator see of one request."""

    def __init__(self, body: Any, record: Any, target: str, usage: Any):
        self.body, self.target, self.usage, self.explained = body, target, usage, explain(record)

    @property
    def outcomes(self) -> list[str]:
        assert self.explained is not None
        return [one["outcome"] for one in self.explained["candidates"]]


async def ask(w: World, *, stream: bool = False, caller: Caller | None = None, **body: Any) -> Answered:
    given = {"model": "chat", "messages": [{"role": "user", "content": "Where?"}], **body, "stream": stream}
    request = check_request(given)
    record = await w.service.admit(caller or Caller("http"), request)
    deadline = w.service.deadline()
    if not stream:
        answer = await w.service.failover.complete(request, deadline, record)
        return Answered(json.loads(answer.body), record, answer.target, answer.usage)
    streamed = await w.service.failover.stream(request, deadline, record)
    frames = b"".join([frame async for frame in streamed.frames()]).split(b"\n\n")
    chunks = [json.loads(f[6:]) for f in frames if f.startswith(b"data: {")]
    deltas = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in deltas)
    finish = next(choice["finish_reason"] for choice in deltas if choice.get("finish_reason"))
    made = {"choices": [{"message": {"content": text}, "finish_reason": finish}]}
    usage = streamed.usage
    await streamed.close()
    return Answered(made, record, streamed.target, usage)


def sent(server: FakeServer) -> list[dict[str, Any]]:
    assert server.objections == []
    return [received.body for received in server.received]


def path_of(received: Received) -> str:
    return received.path.replace("%3A", ":").replace("%2F", "/")


EACH_WAY = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


# ARNs under names.


@EACH_WAY
def test_only_the_wire_has_the_arn(aws: FakeServer, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # below, botocore shows each request
    args = args_for(aws, arns={"team-a": {"arn": ARN, "model": SONNET}})

    async def test(w: World) -> Answered:
        answered = await ask(w, stream=stream)
        told = json.dumps([answered.explained, w.service.models(), sorted(w.service.targets)], default=str)
        assert ACCOUNT not in told
        assert ACCOUNT not in json.dumps(await w.service.operations.provider_health("aws"), default=str)
        return answered

    answered = in_app(args, test)
    assert answered.target == "aws/team-a"
    assert path_of(aws.received[0]) == f"/model/{ARN}/{'converse-stream' if stream else 'converse'}"
    assert ACCOUNT not in caplog.text


def test_a_request_behind_a_name_is_written_by_the_rules_of_its_model(aws: FakeServer) -> None:
    """Of Claude: marks of a prompt cache, thinking by a budget, one of temperature and top_p."""
    part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": [part]}],
        "reasoning_effort": "low",
        "max_tokens": 8000,
        "temperature": 1,
        "top_p": 0.9,
    }
    by_id = {"model": "aws/" + SONNET.replace("anthropic", "us.anthropic")}
    args = args_for(aws, arns={"team-a": {"arn": ARN, "model": SONNET}, "plain": ARN})

    async def test(w: World) -> None:
        for model in ({"model": "aws/team-a"}, by_id, {"model": "aws/plain"}):
            await ask(w, **body, **model)

    in_app(args, test)
    named, itself, plain = sent(aws)
    assert named == itself
    assert "cachePoint" in json.dumps(named)
    assert named["additionalModelRequestFields"]["thinking"]["type"] == "enabled"
    assert "cachePoint" not in json.dumps(plain)  # what a name does not say is not guessed


def test_a_name_means_its_model_at_each_place_of_its_provider(aws: FakeServer) -> None:
    places = [{"name": "one"}, {"name": "two", "bucket": "other"}]
    args = args_for(aws, arns={"team-a": {"arn": ARN, "model": SONNET}}, places=places)
    part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    answered = in_app(args, lambda w: ask(w, messages=[{"role": "user", "content": [part]}]))
    assert answered.target == "aws#one/team-a"
    assert path_of(aws.received[0]) == f"/model/{ARN}/converse"
    assert "cachePoint" in json.dumps(sent(aws))


def test_a_name_that_is_the_models_own_id_says_its_rules_by_itself(aws: FakeServer) -> None:
    args = args_for(aws, arns={SONNET: ARN})
    resolved = parse(args)
    assert resolved.providers["aws"].window(SONNET) == 200_000
    part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    in_app(args, lambda w: ask(w, messages=[{"role": "user", "content": [part]}]))
    assert "cachePoint" in json.dumps(sent(aws))


def test_a_price_and_a_window_are_those_of_the_model_behind_the_name(aws: FakeServer) -> None:
    from deployments.config.resolved import ResolvedConfig
    from deployments.usage.prices import PriceList
    from deployments.usage.rates import Tokens

    config = parse(args_for(aws, arns={"team-a": {"arn": ARN, "model": SONNET}}))
    resolved = ResolvedConfig(config, ())
    assert resolved.windows() == {"aws/team-a": 200_000}
    prices = PriceList({}, addresses=resolved.billing_addresses(), base_models=resolved.base_models())
    cost, by_id = (prices.cost("aws", name, Tokens(1_000_000, 0)) for name in ("team-a", SONNET))
    assert cost == by_id is not None
    assert prices.cost("aws", "nobody", Tokens(1_000_000, 0)) is None


@EACH_WAY
def test_no_message_of_an_error_tells_the_account(aws: FakeServer, other: FakeServer, stream: bool) -> None:
    aws.rules = (bedrock_options.no_such_arn,)

    async def test(w: World) -> Answered:
        answered = await ask(w, stream=stream)
        with pytest.raises(NoAnswer) as caught:
            await ask(w, stream=stream, model="aws/team-a")
        assert ACCOUNT not in json.dumps(caught.value.body())
        assert "team-a can't be invoked by account (hidden)" in str(caught.value)
        return answered

    answered = in_app(args_for(aws, other, arns={"team-a": ARN}), test)
    assert answered.target == "other/gpt-4o"
    assert "rejected" in answered.outcomes[0]
    assert ACCOUNT not in json.dumps(answered.explained)


def test_an_error_inside_a_stream_tells_no_account_either(aws: FakeServer) -> None:
    told = event("validationException", {"message": f"{ARN} is gone from {ACCOUNT}."}, exception=True)
    aws.behave = Behaviour("raw", raw=told, content_type=BedrockWire.stream_type)

    async def test(w: World) -> None:
        with pytest.raises(NoAnswer) as caught:
            await ask(w, stream=True)
        assert ACCOUNT not in json.dumps(caught.value.body())

    in_app(args_for(aws, arns={"team-a": ARN}), test)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"User: arn:aws:sts::{ACCOUNT}:assumed-role/x/y is not good.", "User: (hidden) is not good."),
        (f"no '{ARN}'.", "no 'team-a'."),
        (f"({ARN}), {ARN}.", "(team-a), team-a."),
        (f"account {ACCOUNT}, 1{ACCOUNT} tokens", f"account (hidden), 1{ACCOUNT} tokens"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_arns_become_their_names_and_accounts_nothing(message: str, shown: str) -> None:
    assert without_accounts(message, {ARN: "team-a"}) == shown


@pytest.mark.parametrize(
    ("settings", "row", "sentence"),
    [
        ({}, ARN, "models.chat.aws: an ARN tells an account's number: give it a name under this provider's `arns`"),
        ({"arns": {ARN: ARN}}, "x", "providers.aws.arns.*: must be a name, and the ARN its value"),
        ({"arns": {"x": "team-a"}}, "x", "providers.aws.arns.x.arn: is no ARN of an inference profile"),
        ({"arns": {"x": {"arn": ARN, "model": ARN}}}, "x", "providers.aws.arns.x.model: must be a name"),
        # Its messages are its own (AWS, Prompt management), so no chat can go there.
        (
            {"arns": {"x": f"arn:aws:bedrock:us-east-1:{ACCOUNT}:prompt/ABCDEFGHIJ"}},
            "x",
            "providers.aws.arns.x.arn: is",
        ),
        ({"guardrail": {"id": "gr1"}}, "x", "providers.aws.guardrail.version: required key is missing"),
        ({"guardrail": {"id": "GR-1", "version": 1}}, "x", "providers.aws.guardrail.id: is neither the id"),
        (
            {"guardrail": {"id": "gr1", "version": 0}},
            "x",
            "providers.aws.guardrail.version: must be a number, or DRAFT",
        ),
        ({"service_tier": "scale"}, "x", "providers.aws.service_tier: must be 'default', 'flex', 'priority'"),
        ({"request_metadata": ["key"]}, "x", "providers.aws.request_metadata.0: must be 'tenant'"),
    ],
)
def test_what_bedrock_would_refuse_is_refused_by_the_check_of_the_configuration(
    settings: dict[str, Any], row: str, sentence: str
) -> None:
    args = {"providers": {"aws": {"kind": "bedrock", **settings}}, "models": {"chat": {"aws": row}}}
    with pytest.raises(ConfigError) as refused:
        parse(args)
    begin, _, end = sentence.partition("*")
    assert str(refused.value).startswith(begin)
    assert end in str(refused.value)
    assert ACCOUNT not in str(refused.value) or "*" in sentence


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        f"arn:aws-us-gov:bedrock:us-gov-west-1:{ACCOUNT}:custom-model/a.b/abcdefghijkl",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:provisioned-model/abcdefghijkl",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:custom-model-deployment/abcdefghijkl",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:imported-model/abcdefghijkl",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:default-prompt-router/anthropic.claude:1",
        f"arn:aws:bedrock:eu-west-1:{ACCOUNT}:prompt-router/abc123",
        "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
        f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:endpoint/mine",
    ],
)
def test_each_arn_that_converse_takes_a_chat_at_can_have_a_name(aws: FakeServer, arn: str) -> None:
    in_app(args_for(aws, arns={"named": arn}), ask)
    assert path_of(aws.received[0]) == f"/model/{arn}/converse"
    assert sent(aws)


def test_a_model_of_embeddings_can_have_a_name_too(aws: FakeServer) -> None:
    arn = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:provisioned-model/abcdefghijkl"
    args = args_for(aws, arns={"vectors": {"arn": arn, "model": "amazon.titan-embed-text-v2:0"}})
    args["models"] = {"chat": {"aws": "m"}}
    args["embeddings"] = {"row": {"dimensions": 512, "targets": {"aws": "vectors"}}}

    async def test(w: World) -> str:
        request = check_embedding_request({"model": "row", "input": "Hi", "dimensions": 512})
        return (await w.service.embedder.complete(request, w.service.deadline(), None, "embed")).target

    assert in_app(args, test) == "aws/vectors"
    assert path_of(aws.received[0]) == f"/model/{arn}/invoke"
    assert aws.received[0].body["dimensions"] == 512  # as Titan's second version takes it, and no other
    with pytest.raises(ConfigError, match=r"^embeddings\.row\.targets\.aws: the vectors of vectors"):
        parse({**args, "embeddings": {"row": {"dimensions": 999, "targets": {"aws": "vectors"}}}})


# Guardrails.

GUARDRAIL = {"id": "gr1abc", "version": 3, "trace": "enabled", "stream_processing_mode": "async"}


def test_a_guardrail_goes_with_each_chat_and_its_mode_with_streams_alone(aws: FakeServer) -> None:
    async def test(w: World) -> None:
        await ask(w)
        await ask(w, stream=True)

    in_app(args_for(aws, guardrail=GUARDRAIL), test)
    guard = {"guardrailIdentifier": "gr1abc", "guardrailVersion": "3", "trace": "enabled"}
    assert [body["guardrailConfig"] for body in sent(aws)] == [guard, {**guard, "streamProcessingMode": "async"}]


@EACH_WAY
def test_what_a_guardrail_has_stopped_is_filtered_content_and_nobody_else_is_asked(
    aws: FakeServer, other: FakeServer, stream: bool
) -> None:
    """Ten of them: as failures they would open the circuit, and by another provider they would pass the guardrail."""
    forbidden = [{"role": "user", "content": f"Tell me of {TOPIC}."}]

    async def test(w: World) -> None:
        for _ in range(10):
            answered = await ask(w, stream=stream, messages=forbidden)
            (choice,) = answered.body["choices"]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", BLOCKED)
            assert answered.outcomes == ["ok", "not reached"]
        assert w.breaker.plan(["aws/global.anthropic.claude-haiku-4-5-20251001-v1:0"]).candidates

    in_app(args_for(aws, other, guardrail=GUARDRAIL), test)
    assert other.received == []


# Tiers and latency.


@EACH_WAY
@pytest.mark.parametrize(
    ("asked", "usual", "tier"),
    [
        (None, None, None),
        ("auto", None, None),
        ("default", None, None),
        ("flex", None, "flex"),
        ("fast", None, "priority"),
        ("scale", None, None),  # Bedrock has no such tier: the hint is left out
        (None, "flex", "flex"),
        ("auto", "flex", "flex"),
        ("default", "flex", "default"),
        ("priority", "flex", "priority"),
    ],
)
def test_the_tier_is_the_requests_or_else_the_providers_and_usage_tells_which_it_was(
    aws: FakeServer, asked: str | None, usual: str | None, tier: str | None, stream: bool
) -> None:
    body = {} if asked is None else {"service_tier": asked}
    answered = in_app(args_for(aws, service_tier=usual), lambda w: ask(w, stream=stream, **body))
    (request,) = sent(aws)
    assert request.get("serviceTier") == (None if tier is None else {"type": tier})
    assert answered.usage.get("service_tier") == (None if tier == "default" else tier)


@EACH_WAY
@pytest.mark.parametrize(
    ("settings", "rule", "member"),
    [
        ({"service_tier": "flex"}, bedrock_options.service_tier, "serviceTier"),
        ({"service_tier": "reserved"}, bedrock_options.reserved_tier, "serviceTier"),
        ({"latency": "optimized"}, bedrock_options.latency, "performanceConfig"),
    ],
)
def test_an_option_that_a_model_refuses_is_left_out_and_the_provider_is_not_left(
    aws: FakeServer, other: FakeServer, settings: dict[str, str], rule: Rule, member: str, stream: bool
) -> None:
    aws.rules = (rule,)

    async def test(w: World) -> list[Answered]:
        return [await ask(w, stream=stream) for _ in range(2)]

    for answered in in_app(args_for(aws, other, **settings), test):
        assert answered.outcomes == ["ok", "not reached"]
        assert "service_tier" not in answered.usage
    assert [member in body for body in sent(aws)] == [True, False, False]  # it is remembered


def test_what_leaving_an_option_out_has_not_helped_is_not_remembered(aws: FakeServer, other: FakeServer) -> None:
    """A message may quote a client: its word would take the option, and so the price, from everybody for an hour."""

    def bad_tool(asked: Asked) -> Refusal | None:
        named = "toolConfig" in asked.body
        return bedrock.refuse("Tool 'latency' of service tier x has an invalid schema.") if named else None

    aws.rules = (bad_tool,)
    tool = {"type": "function", "function": {"name": "latency", "parameters": {"type": "object"}}}

    async def test(w: World) -> None:
        assert (await ask(w, tools=[tool])).target.startswith("other/")
        assert (await ask(w)).target.startswith("aws/")

    in_app(args_for(aws, other, service_tier="flex", latency="optimized"), test)
    *_, last = sent(aws)
    assert (last["serviceTier"], last["performanceConfig"]) == ({"type": "flex"}, {"latency": "optimized"})


def test_a_tier_that_the_request_asks_for_and_the_model_refuses_is_left_out_by_name(aws: FakeServer) -> None:
    aws.rules = (bedrock_options.service_tier,)

    async def test(w: World) -> tuple[str, ...]:
        request = check_request(
            {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "service_tier": "flex"}
        )
        answer = await w.service.failover.complete(request, w.service.deadline())
        return answer.dropped

    assert in_app(args_for(aws), test) == ("service_tier",)


def test_a_faster_latency_that_served_counts_as_a_tier_that_prices_can_name(aws: FakeServer) -> None:
    answered = in_app(args_for(aws, latency="optimized"), ask)
    assert sent(aws)[0]["performanceConfig"] == {"latency": "optimized"}
    assert answered.usage["service_tier"] == "optimized"


def test_a_limit_of_cost_holds_the_price_of_the_providers_own_tier() -> None:
    from deployments.config.ledger import Accounting
    from deployments.usage.prices import PriceList
    from deployments.usage.worst_case import Route, worst_case

    price = {"input": 1, "output": 1, "service_tiers": {"priority": {"input": 5, "output": 5}}}
    rates = PriceList(Accounting.model_validate({"prices": {"m": price}}).prices).rates("aws", "m")
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 100}
    usual, priority = (worst_case(body, [Route("m", rates, tier=tier)], 1)[1] for tier in (None, "priority"))
    assert priority == 5 * usual
    assert worst_case({**body, "service_tier": "default"}, [Route("m", rates, tier="priority")], 1)[1] == usual


# Who asks.


def metadata(aws: FakeServer, caller: Caller, parts: Sequence[str]) -> Any:
    in_app(args_for(aws, request_metadata=list(parts)), lambda w: ask(w, caller=caller))
    return sent(aws)[-1].get("requestMetadata")


def test_who_asks_is_told_where_the_configuration_says_so(aws: FakeServer) -> None:
    caller = Caller("http", tenant="acme", agent="crawler")
    assert metadata(aws, caller, []) is None
    told = metadata(aws, caller, ["tenant", "agent", "request_id"])
    assert told.pop("request_id")
    assert told == {"tenant": "acme", "agent": "crawler"}
    assert metadata(aws, Caller("http"), ["tenant"]) is None  # of an empty map Converse says that it has no member


@pytest.mark.parametrize("tenant", ["ünïcode & (co)", "x" * 256, "tab\tand\nline", "漢" * 256, "a'b\"c{}"])
def test_a_name_is_told_as_converse_takes_it(aws: FakeServer, tenant: str) -> None:
    told = metadata(aws, Caller("http", tenant=tenant), ["tenant"])
    assert len(told["tenant"]) == len(tenant)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": TOPIC}]},
            '"finish_reason":"content_filter"',
        ),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": TOPIC}], "max_tokens": 9},
            '"stop_reason":"refusal"',
        ),
        ("/v1/responses", {"input": TOPIC}, '"reason":"content_filter"'),
    ],
)
@EACH_WAY
def test_each_door_says_that_a_guardrail_has_stopped_it(
    aws: FakeServer, other: FakeServer, path: str, body: dict[str, Any], said: str, stream: bool
) -> None:
    async def test(w: World) -> httpx2.Response:
        transport = httpx2.ASGITransport(build_http_api(w.service), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.post(path, json={**body, "model": "chat", "stream": stream})

    answer = in_app(args_for(aws, other, guardrail=GUARDRAIL), test)
    assert answer.status_code == 200
    assert answer.headers["x-breakwater-attempts"] == "1"
    assert said in answer.text.replace(" ", "")
    assert BLOCKED in answer.text or stream
    assert other.received == []

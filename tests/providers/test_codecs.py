"""OpenAI chat to the other wires: what each SDK's own model accepts, and back."""

import itertools
import json
import pathlib
import re
import typing
from typing import Any

import boto3
import botocore.session
import pytest
import yaml
from google import genai
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.shared import ChatModel

from deployments.errors import AttemptFailed
from deployments.openai_api.usage import account_of
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import finish_of as bedrock_finish
from deployments.providers.bedrock.codec import from_converse, to_converse, usage_from
from deployments.providers.google.codec import finish_of as google_finish
from deployments.providers.google.codec import from_generate, to_generate
from deployments.providers.local.codec import to_engine
from deployments.providers.time_limits import TimeLimits

# Blank text has a test of its own: the other wires refuse it.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(lambda text: not text.isspace())
contents = texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1, max_size=3)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents}
)
asked = st.fixed_dictionaries({"role": st.just("user"), "content": contents})
messages = st.tuples(st.lists(message, max_size=5), asked).map(lambda parts: [*parts[0], parts[1]])
requests = st.fixed_dictionaries(
    {"model": st.just("row"), "messages": messages},
    optional={
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "max_tokens": st.integers(1, 10_000),
        "max_completion_tokens": st.integers(1, 10_000),
        "stop": texts | st.lists(texts, min_size=1, max_size=4),
        "user": texts,
    },
)


def call(body: dict[str, Any]) -> Call:
    return Call(body, "upstream", "row", TimeLimits())


@pytest.fixture(scope="module")
def converse_shape() -> Any:
    from botocore.validate import ParamValidator

    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    shape = client.meta.service_model.operation_model("Converse").input_shape
    client.close()
    return lambda arguments: ParamValidator().validate(arguments, shape).generate_report()


@settings(max_examples=60, deadline=None)
@given(requests)
def test_every_text_request_is_one_that_boto3_accepts(converse_shape: Any, body: dict[str, Any]) -> None:
    arguments = to_converse(call(body))
    assert converse_shape(arguments) == ""
    roles = [m["role"] for m in arguments["messages"]]
    assert all(a != b for a, b in itertools.pairwise(roles)), "roles must alternate"


@settings(max_examples=60, deadline=None)
@given(requests)
def test_every_text_request_is_one_that_google_genai_accepts(body: dict[str, Any]) -> None:
    made = to_generate(call(body))
    types.GenerationConfig.model_validate(made["generationConfig"])
    for content in made["contents"]:
        types.Content.model_validate(content)


@given(requests)
def test_no_text_is_lost_on_the_way_to_any_wire(body: dict[str, Any]) -> None:
    def pieces(content: Any) -> list[str]:
        return [content] if isinstance(content, str) else [part["text"] for part in content]

    sent = [text for m in body["messages"] for text in pieces(m["content"])]
    for wire in (to_converse(call(body)), to_generate(call(body)), to_engine(call(body))):
        written = json.dumps(wire, ensure_ascii=False)
        for text in sent:
            assert json.dumps(text, ensure_ascii=False)[1:-1] in written


def test_the_local_model_gets_a_system_prompt_and_a_limit_of_its_own() -> None:
    engine = to_engine(call({"model": "row", "messages": [{"role": "user", "content": "Hi"}]}))
    assert engine["messages"][0] == {"role": "system", "content": "You are a helpful assistant."}
    assert (engine["temperature"], engine["max_tokens"]) == (0.0, 256)


def test_each_stop_reason_of_bedrocks_enum_is_an_end_or_a_failure() -> None:
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    kinds = {}
    for reason in (*service.shape_for("StopReason").enum, "a_new_one"):  # type: ignore[attr-defined]
        try:
            kinds[reason] = bedrock_finish(reason)
        except AttemptFailed as error:
            kinds[reason] = error.outcome.kind
    spoiled = {reason for reason, kind in kinds.items() if kind == "server_error"}
    assert spoiled == {"malformed_model_output", "malformed_tool_use", "a_new_one"}


@pytest.mark.parametrize(("finish_of", "spoiled"), [(bedrock_finish, "malformed_tool_use"), (google_finish, "OTHER")])
def test_an_answer_that_the_model_spoiled_is_an_error(finish_of: Any, spoiled: str) -> None:
    with pytest.raises(AttemptFailed):
        finish_of(spoiled)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("guardrail_intervened", "content_filter"),
    ],
)
def test_bedrocks_stop_reasons(reason: str, finish: str) -> None:
    assert bedrock_finish(reason) == finish


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter")],
)
def test_geminis_finish_reasons(reason: str, finish: str) -> None:
    assert google_finish(reason) == finish


def test_a_blocked_prompt_is_an_answer_and_no_failure() -> None:
    body, _ = from_generate({"promptFeedback": {"blockReason": "SAFETY"}}, call({}))
    assert json.loads(body)["choices"][0]["finish_reason"] == "content_filter"


def test_thoughts_are_counted_and_stand_beside_the_text() -> None:
    parts = [{"text": "hmm", "thought": True}, {"text": "Paris"}]
    response = {
        "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1, "thoughtsTokenCount": 20},
    }
    body, usage = from_generate(response, call({}))
    message = json.loads(body)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Paris", "hmm")
    assert usage["completion_tokens"] == 21
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 20}


def test_cached_tokens_are_part_of_the_prompt_as_openai_counts_them() -> None:
    response = {
        "output": {"message": {"content": [{"text": "Paris"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 5, "outputTokens": 1, "cacheReadInputTokens": 100},
    }
    _, usage = from_converse(response, call({}))
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (105, {"cached_tokens": 100})


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ([{"ttl": "1h", "inputTokens": 7}, {"ttl": "5m", "inputTokens": 3}], (3, 7)),
        ([{"ttl": "5m", "inputTokens": 10}], (10, 0)),
        ([{"ttl": "1h", "inputTokens": 7}], None),  # not all of it
        ([{"ttl": "2h", "inputTokens": 10}], None),
        ([], None),
        ("odd", None),
        ([None, {"ttl": "1h", "inputTokens": "7"}], None),
    ],
)
def test_what_a_cache_has_written_is_told_by_its_lifetime(details: Any, told: tuple[int, int] | None) -> None:
    """AWS, API reference, TokenUsage and CacheDetail."""
    figures = {"inputTokens": 5, "outputTokens": 1, "cacheWriteInputTokens": 10, "cacheDetails": details}
    usage = usage_from(figures)
    assert usage is not None
    lifetimes = told and {"ephemeral_5m_input_tokens": told[0], "ephemeral_1h_input_tokens": told[1]}
    more = {"cache_creation_token_details": lifetimes} if lifetimes else {}
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 10, **more}
    assert account_of(usage) is usage, "it is right as it is"


@pytest.mark.parametrize(
    "response", [{}, {"output": {}}, {"output": {"message": {"content": []}}}, {"stopReason": "x"}]
)
def test_a_dict_without_an_answer_is_malformed(response: dict[str, Any]) -> None:
    with pytest.raises(AttemptFailed) as caught:
        from_converse(response, call({}))
    assert caught.value.outcome.kind == "malformed"


def test_the_shipped_model_ids_stand_in_the_sdks_own_lists() -> None:
    known_to_google = "".join(p.read_text() for p in pathlib.Path(genai.__file__).parent.glob("*.py"))
    config = yaml.safe_load((pathlib.Path(__file__).parents[2] / "serve_config.yaml").read_text())
    for row in config["applications"][0]["args"]["models"].values():
        assert row["openai"] in typing.get_args(ChatModel)
        assert re.search(re.escape(row["google_genai"]) + r"(?![\w.-])", known_to_google)

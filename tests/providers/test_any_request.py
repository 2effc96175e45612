"""Any valid OpenAI request: the provider's own SDK accepts what we make of it, or it is refused by name."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import httpx2
import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from google import genai
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import AttemptFailed, BadRequest
from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import check_request
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.adapter import converse_body
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.request import to_generate
from deployments.providers.http.request_body import dump_with_bytes
from deployments.providers.kinds import KINDS
from deployments.providers.renaming.call_ids import tool_use_id
from deployments.providers.time_limits import TimeLimits
from deployments.providers.translation.conversation import arguments_of
from tests.fakes import bedrock_wire, gemini_wire
from tests.fakes.vendors import anthropic, bedrock, first_refusal, gemini
from tests.providers.anthropic_params import misfit
from tests.providers.any_request import HINT, requests

Arguments = dict[str, Any]
MANY = settings(max_examples=60, deadline=None)


CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"  # which takes marks of a prompt cache in each place


DOCUMENTS = (bedrock.document_name, bedrock.document_limits, bedrock.document_alone)


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


def call(body: Mapping[str, Any]) -> Call:
    return Call(body, CLAUDE, "row", TimeLimits())


@pytest.fixture(scope="module")
def converse_report() -> Callable[[Arguments], str]:
    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    shape = client.meta.service_model.operation_model("Converse").input_shape
    client.close()
    return lambda arguments: ParamValidator().validate(arguments, shape).generate_report()


CODECS: Mapping[str, Callable[[Call], Arguments]] = {
    "bedrock": to_converse,
    "google": to_generate,
    "anthropic": to_messages,
}


def arguments_for(kind: str, body: Mapping[str, Any]) -> Arguments | None:
    """What the SDK is given; None if the request is refused as `fit` says."""
    suits = find_unsupported(KINDS[kind].capabilities, body)
    if not suits.missing:
        return CODECS[kind](call(body))
    with pytest.raises(AttemptFailed) as caught:
        CODECS[kind](call(body))
    outcome = caught.value.outcome
    assert (outcome.kind, outcome.param) == ("unsupported", suits.missing[0])
    return None


@MANY
@given(requests)
def test_our_own_check_takes_every_request(body: dict[str, Any]) -> None:
    assert check_request(body).body is body


@pytest.fixture(scope="module")
def written_by_boto3() -> Callable[[Arguments], Any]:
    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    operation = client.meta.service_model.operation_model("Converse")
    client.close()
    return lambda arguments: create_serializer("rest-json").serialize_to_request(arguments, operation)["body"]


@MANY
@given(requests)
def test_bedrock_gets_what_boto3_would_write(written_by_boto3: Any, body: dict[str, Any]) -> None:
    arguments = arguments_for("bedrock", body)
    if arguments is not None:
        assert json.loads(converse_body(call(body))) == json.loads(written_by_boto3(arguments))


@MANY
@given(requests)
def test_bedrock_gets_what_boto3_and_converse_accept(converse_report: Any, body: dict[str, Any]) -> None:
    arguments = arguments_for("bedrock", body)
    if arguments is not None:
        assert converse_report(arguments) == ""
        assert bedrock_wire.objection(arguments) is None
        assert first_refusal(DOCUMENTS, Asked(f"/model/{CLAUDE}/converse", {}, arguments)) is None


def in_the_sdks_types(body: Arguments) -> tuple[Any, ...]:
    """A body of generateContent, read as the SDK reads JSON. Whatever it does not know is an error."""

    def read(model: Any, value: Any) -> Any:
        return model.model_validate_json(json.dumps(value))

    return (
        [read(types.Content, content) for content in body["contents"]],
        read(types.GenerationConfig, body.get("generationConfig", {})),
        read(types.Content, body.get("systemInstruction", {})),
        [read(types.Tool, tool) for tool in body.get("tools", ())],
        read(types.ToolConfig, body.get("toolConfig", {})),
        {*body} - {"contents", "generationConfig", "systemInstruction", "tools", "toolConfig"},
    )


@pytest.fixture(scope="module")
def written_by_the_sdk() -> Iterator[Callable[[tuple[Any, ...]], Arguments]]:
    """What the SDK itself writes when it is asked for the same."""

    class Unsent(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            self.body = json.loads(request.content)
            return httpx2.Response(200, json={})

    unsent, runner = Unsent(), asyncio.Runner()
    http = httpx2.AsyncClient(transport=unsent)
    client = genai.Client(vertexai=False, api_key="x", http_options=types.HttpOptions(httpx_async_client=http))

    def written(asked: tuple[Any, ...]) -> Arguments:
        contents, config, system, tools, tool_config, _ = asked
        whole = types.GenerateContentConfig(
            **{name: getattr(config, name) for name in config.model_fields_set},
            system_instruction=system if system.parts else None,
            tools=tools or None,
            tool_config=tool_config if tool_config.function_calling_config else None,
        )
        runner.run(client.aio.models.generate_content(model="m", contents=contents, config=whole))
        return unsent.body

    yield written
    runner.run(client.aio.aclose())
    runner.close()


@MANY
@given(requests)
def test_google_gets_what_its_sdk_would_write_and_gemini_accepts(written_by_the_sdk: Any, body: dict[str, Any]) -> None:
    made = arguments_for("google", body)
    if made is None:
        return
    asked = in_the_sdks_types(made)
    assert in_the_sdks_types(written_by_the_sdk(asked)) == asked
    assert gemini_wire.objection(made["contents"]) is None
    assert gemini.media_type(Asked("/models/gemini-3-pro:generateContent", {}, made)) is None


@MANY
@given(requests)
def test_anthropic_gets_what_its_sdks_types_know_and_its_documents_take(body: dict[str, Any]) -> None:
    made = arguments_for("anthropic", body)
    if made is None:
        return
    sent = json.loads(dump_with_bytes(made))
    assert misfit(sent) is None
    # What its models refuse beyond its API is left out before a codec is asked: tests/property has both together.
    rules = [rule for rule in anthropic.OF_BODIES if rule is not anthropic.model]
    assert first_refusal(rules, Asked("/v1/messages", {}, sent)) is None


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
@MANY
@given(body=requests)
def test_no_text_no_call_and_no_result_is_lost(kind: str, body: dict[str, Any]) -> None:
    arguments = arguments_for(kind, body)
    if arguments is None:
        return
    written = json.dumps(arguments, ensure_ascii=False, default=repr)

    def is_written(value: Any) -> bool:
        return json.dumps(value, ensure_ascii=False).removeprefix('"').removesuffix('"') in written

    for message in body["messages"]:
        content = message.get("content") or []
        parts = [{"text": content}] if isinstance(content, str) else content
        assert all(is_written(part["text"].rstrip()) for part in parts if not (part.get("text") or " ").isspace())
        for made in message.get("tool_calls") or ():
            assert is_written(arguments_of(made["function"]["arguments"]))
            assert is_written(made["function"]["name"])
            assert is_written(tool_use_id(made["id"]) if kind != "google" else made["id"])


# Where a field that `fit` does not name must be found.
CARRIED: dict[str, dict[str, Callable[[Arguments], Any]]] = {
    "bedrock": {
        "temperature": lambda a: a["inferenceConfig"]["temperature"],
        "top_p": lambda a: a["inferenceConfig"]["topP"],
        "response_format": lambda a: json.loads(a["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]),
        "stop": lambda a: a["inferenceConfig"]["stopSequences"],
        "tools": lambda a: len([tool for tool in a["toolConfig"]["tools"] if "toolSpec" in tool]),
    },
    "anthropic": {
        "temperature": lambda a: a["temperature"],
        "top_p": lambda a: a["top_p"],
        "response_format": lambda a: a["output_config"]["format"]["schema"],
        "stop": lambda a: a["stop_sequences"],
        "tools": lambda a: len(a["tools"]),
    },
    "google": {
        "temperature": lambda a: a["generationConfig"]["temperature"],
        "top_p": lambda a: a["generationConfig"]["topP"],
        "reasoning_effort": lambda a: a["generationConfig"]["thinkingConfig"]["thinkingLevel"].lower(),
        "response_format": lambda a: a["generationConfig"].get(
            "responseJsonSchema", a["generationConfig"]["responseMimeType"]
        ),
        "stop": lambda a: a["generationConfig"]["stopSequences"],
        "tools": lambda a: len(a["tools"][0]["functionDeclarations"]),
        "seed": lambda a: a["generationConfig"]["seed"],
        "presence_penalty": lambda a: a["generationConfig"]["presencePenalty"],
        "frequency_penalty": lambda a: a["generationConfig"]["frequencyPenalty"],
        "logprobs": lambda a: a["generationConfig"]["responseLogprobs"],
        "n": lambda a: a["generationConfig"]["candidateCount"],
    },
}


def expected(kind: str, body: Mapping[str, Any], name: str) -> Any:
    value = body[name]
    match name:
        case "stop":
            return [value] if isinstance(value, str) else value
        case "seed":
            return value % 2**31
        case "tools":
            choice = body.get("tool_choice")
            return 1 if isinstance(choice, dict) and choice["type"] == "allowed_tools" else len(value)
        case "response_format":
            if value["type"] != "json_schema":
                return "application/json"
            holder = value["json_schema"]
            own = {"additionalProperties": False} if kind != "google" else {}
            own |= {"title": holder["name"]} if kind != "bedrock" else {}
            return {**own, **holder["schema"]}
        case "reasoning_effort":
            return {"none": "minimal", "max": "xhigh"}.get(value, value)
    return value


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
@MANY
@given(body=requests)
def test_what_fit_does_not_name_is_carried_and_what_it_drops_is_not(kind: str, body: dict[str, Any]) -> None:
    arguments = arguments_for(kind, body)
    if arguments is None:
        return
    dropped = find_unsupported(KINDS[kind].capabilities, body).dropped
    carried = {"user", "safety_identifier"} if kind == "anthropic" else set()
    hinted = json.dumps({name: value for name, value in arguments.items() if name != "metadata"}, default=repr)
    assert HINT not in hinted
    assert ("metadata" in arguments) is bool(carried & body.keys())
    for name, value in body.items():
        if name in carried:
            assert arguments["metadata"] == {"user_id": HINT}
        elif value == HINT or (HINT in str(value) and name != "messages"):
            assert name in dropped
        if name in dropped and (kind, name) == ("anthropic", "temperature"):
            assert arguments[name] == 1  # the nearest that it takes
        elif name in dropped and (kind, name) == ("anthropic", "metadata"):  # it has a field of this name for a user
            assert arguments.get(name) == ({"user_id": HINT} if carried & body.keys() else None)
        elif name in dropped:
            assert name not in {**arguments, **arguments.get("generationConfig", {})}
        elif name in CARRIED[kind] and not asks_nothing(body, name):
            assert CARRIED[kind][name](arguments) == expected(kind, body, name)


def asks_nothing(body: Mapping[str, Any], name: str) -> bool:
    if name == "tools" and body.get("tool_choice") == "none":
        return True
    return body[name] in (None, False) or body[name] == {"type": "text"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    inner = [*value.items()] if isinstance(value, dict) else [*enumerate(value)] if isinstance(value, list) else []
    return [(*path, key) for key, _ in inner] + [p for key, v in inner for p in places(v, (*path, key))]


NONSENSE = ["null", "0", "-1", "2.5", "true", '"x"', '""', "[]", "{}", "[1]", '{"type": "x"}', "[[]]", "[{}]"]


@MANY
@given(requests, st.data())
def test_nonsense_in_any_place_is_refused_and_never_a_bug(body: dict[str, Any], data: st.DataObject) -> None:
    body = json.loads(json.dumps(body))
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places(body)))
        inner = body
        for key in above:
            inner = inner[key]
        inner[last] = json.loads(data.draw(st.sampled_from(NONSENSE)))
    try:
        check_request(body)
    except BadRequest:
        return
    for kind, codec in CODECS.items():
        suits = find_unsupported(KINDS[kind].capabilities, body)
        with contextlib.suppress(AttemptFailed):
            codec(call(body))
            assert not suits.missing


def keys_in(value: Any) -> list[str]:
    """Every key inside a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*(value if isinstance(value, dict) else ()), *(key for part in inner for key in keys_in(part))]


@pytest.mark.parametrize("kind", ["bedrock", "anthropic"])
@MANY
@given(body=requests)
def test_no_more_cache_points_are_sent_than_marks_were_kept(kind: str, body: dict[str, Any]) -> None:
    found = find_unsupported(KINDS[kind].capabilities, body, CLAUDE)
    if found.missing:
        return
    marks = keys_in(body).count("cache_control")
    points = keys_in(CODECS[kind](call(body))).count("cachePoint" if kind == "bedrock" else "cache_control")
    left_out = sum(name.endswith("cache_control") for name in found.dropped)
    assert points <= min(4, marks - left_out)
    assert points or marks == left_out

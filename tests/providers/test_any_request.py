"""Any valid OpenAI request: the provider's own SDK accepts what we make of it, or it is refused by name."""

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.abilities import fit
from deployments.errors import AttemptFailed, BadRequest
from deployments.providers.base import Call, Limits
from deployments.providers.bedrock_request import to_converse, tool_use_id
from deployments.providers.conversation import arguments_of
from deployments.providers.google_request import to_generate
from deployments.wire import check_request
from tests.fakes import bedrock_wire, gemini_wire
from tests.providers.any_request import HINT, requests

Arguments = dict[str, Any]
MANY = settings(max_examples=60, deadline=None)


def call(body: Mapping[str, Any]) -> Call:
    return Call(body, "upstream", "row", Limits())


@pytest.fixture(scope="module")
def converse_report() -> Callable[[Arguments], str]:
    client = boto3.client("bedrock-runtime", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    shape = client.meta.service_model.operation_model("Converse").input_shape
    client.close()
    return lambda arguments: ParamValidator().validate(arguments, shape).generate_report()


def arguments_for(kind: str, body: Mapping[str, Any]) -> Arguments | None:
    """What the SDK is given; None if the request is refused as `fit` says."""
    suits = fit(kind, body)
    if not suits.missing:
        if kind == "bedrock":
            return to_converse(call(body))
        contents, config = to_generate(call(body))
        return {"contents": contents, **config}
    with pytest.raises(AttemptFailed) as caught:
        (to_converse if kind == "bedrock" else to_generate)(call(body))
    outcome = caught.value.outcome
    assert (outcome.kind, outcome.param) == ("unsupported", suits.missing[0])
    return None


@MANY
@given(requests)
def test_our_own_check_takes_every_request(body: dict[str, Any]) -> None:
    assert check_request(body).body is body


@MANY
@given(requests)
def test_bedrock_gets_what_boto3_and_converse_accept(converse_report: Any, body: dict[str, Any]) -> None:
    arguments = arguments_for("bedrock", body)
    if arguments is not None:
        assert converse_report(arguments) == ""
        assert bedrock_wire.objection(arguments) is None


@MANY
@given(requests)
def test_google_gets_what_its_sdk_and_gemini_accept(body: dict[str, Any]) -> None:
    arguments = arguments_for("google", body)
    if arguments is None:
        return
    contents = arguments.pop("contents")
    types.GenerateContentConfig(**arguments)
    made = [types.Content.model_validate(content) for content in contents]
    on_the_wire = [content.model_dump(mode="json", by_alias=True, exclude_none=True) for content in made]
    assert gemini_wire.objection(on_the_wire) is None


@pytest.mark.parametrize("kind", ["bedrock", "google"])
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
        assert all(is_written(part["text"]) for part in parts if not (part.get("text") or " ").isspace())
        for made in message.get("tool_calls") or ():
            assert is_written(arguments_of(made["function"]["arguments"]))
            assert is_written(made["function"]["name"])
            assert is_written(tool_use_id(made["id"]) if kind == "bedrock" else made["id"])


# Where a field that `fit` does not name must be found.
CARRIED: dict[str, dict[str, Callable[[Arguments], Any]]] = {
    "bedrock": {
        "temperature": lambda a: a["inferenceConfig"]["temperature"],
        "top_p": lambda a: a["inferenceConfig"]["topP"],
        "reasoning_effort": lambda a: a["outputConfig"]["effort"],
        "response_format": lambda a: json.loads(a["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]),
        "stop": lambda a: a["inferenceConfig"]["stopSequences"],
        "tools": lambda a: len(a["toolConfig"]["tools"]),
    },
    "google": {
        "temperature": lambda a: a["temperature"],
        "top_p": lambda a: a["top_p"],
        "reasoning_effort": lambda a: a["thinking_config"]["thinking_level"].lower(),
        "response_format": lambda a: (
            a["response_json_schema"] if "response_json_schema" in a else a["response_mime_type"]
        ),
        "stop": lambda a: a["stop_sequences"],
        "tools": lambda a: len(a["tools"][0]["function_declarations"]),
        "seed": lambda a: a["seed"],
        "presence_penalty": lambda a: a["presence_penalty"],
        "frequency_penalty": lambda a: a["frequency_penalty"],
        "logprobs": lambda a: a["response_logprobs"],
        "n": lambda a: a["candidate_count"],
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
            return value["json_schema"]["schema"] if value["type"] == "json_schema" else "application/json"
        case "reasoning_effort" if kind == "bedrock":
            return "low" if value == "minimal" else value
        case "reasoning_effort":
            return {"none": "minimal", "max": "xhigh"}.get(value, value)
    return value


@pytest.mark.parametrize("kind", ["bedrock", "google"])
@MANY
@given(body=requests)
def test_what_fit_does_not_name_is_carried_and_what_it_drops_is_not(kind: str, body: dict[str, Any]) -> None:
    arguments = arguments_for(kind, body)
    if arguments is None:
        return
    dropped = fit(kind, body).dropped
    assert HINT not in json.dumps(arguments, default=repr)
    for name, value in body.items():
        if value == HINT or (HINT in str(value) and name != "messages"):
            assert name in dropped
        if name in dropped:
            assert name not in arguments
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
    for kind, codec in (("bedrock", to_converse), ("google", to_generate)):
        suits = fit(kind, body)
        with contextlib.suppress(AttemptFailed):
            codec(call(body))
            assert not suits.missing

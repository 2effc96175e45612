"""Histories and images as clients really send them, on the wires of vendors that want them tidy."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from deployments.openai_api.capabilities import Unsupported, find_unsupported
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import to_converse
from deployments.providers.google.codec import to_generate
from deployments.providers.kinds import KINDS
from deployments.providers.local.codec import to_engine
from deployments.providers.translation.conversation import NO_RESULT
from tests.fakes import bedrock_wire, gemini_wire
from tests.images import SAMPLES
from tests.providers.test_mapping import HI, TOOLS, assistant, call, made, param_of, result

HAIKU = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
OLDER = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
MARK = {"type": "ephemeral"}
POINT = {"cachePoint": {"type": "default"}}


def image_part(subtype: str, said: str | None = None, write: Callable[[bytes], bytes] = base64.b64encode) -> Any:
    data = write(SAMPLES[subtype]).decode().rstrip("=")
    return {"type": "image_url", "image_url": {"url": f"data:{said or 'image/' + subtype};base64,{data}"}}


def bedrock_turns(*messages: dict[str, Any], **fields: Any) -> list[tuple[str, list[Any]]]:
    arguments = to_converse(call(*messages, **fields))
    assert bedrock_wire.objection(arguments) is None
    return [(message["role"], message["content"]) for message in arguments["messages"]]


def gemini_contents(*messages: dict[str, Any], model: str = "gemini-3-pro", **fields: Any) -> list[tuple[str, Any]]:
    contents = to_generate(call(*messages, model=model, **fields))["contents"]
    if not model.startswith("gemini-2"):  # the fake is Gemini 3, which wants signatures
        assert gemini_wire.objection(contents) is None
    return [(content["role"], content["parts"]) for content in contents]


def results_on(*messages: dict[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the id and the text of each result, as Bedrock and as Gemini get them."""
    blocks = [b["toolResult"] for _, content in bedrock_turns(*messages) for b in content if "toolResult" in b]
    parts = [p["functionResponse"] for _, ps in gemini_contents(*messages) for p in ps if "functionResponse" in p]
    return (
        [(b["toolUseId"], "".join(c["text"] for c in b["content"])) for b in blocks],
        [(p["id"], p["response"]["result"]) for p in parts],
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([result("a", "1"), result("a", "1"), result("b", "2")], [("a", "1"), ("b", "2")]),
        ([result("a", "1"), result("b", "2"), result("a", "3")], [("a", "1\n\n3"), ("b", "2")]),
        ([result("b", "2"), result("a", "1")], [("a", "1"), ("b", "2")]),
        ([result("b", "2")], [("a", NO_RESULT), ("b", "2")]),
        ([], [("a", NO_RESULT), ("b", NO_RESULT)]),
        ([HI, result("b", "2"), HI, result("a", "1")], [("a", "1"), ("b", "2")]),
        ([result("a", "1"), assistant(content="Wait."), result("b", "2")], [("a", "1"), ("b", "2")]),
        ([HI, assistant(content="Wait."), HI, result("b", "2"), result("a", "1")], [("a", "1"), ("b", "2")]),
    ],
)
def test_each_call_has_one_result_in_the_turn_after_it(given: Any, expected: Any) -> None:
    assert results_on(HI, assistant(made("a"), made("b", "time")), *given, HI) == (expected, expected)


def test_calls_of_one_id_in_one_message_get_their_results_in_order() -> None:
    history = [HI, assistant(made("x"), made("x", "time")), result("x", "1"), result("x", "2"), HI]
    [(first, one), (second, two)], _ = results_on(*history)
    assert (first, one, two) == ("x", "1", "2")
    assert second != "x"


def test_an_id_that_a_server_uses_for_every_call_keeps_every_result() -> None:
    steps = [m for n in "123" for m in (assistant(made("same")), result("same", n))]
    assert [text for _, text in results_on(HI, *steps, HI)[0]] == ["1", "2", "3"]


def test_a_call_that_nobody_answered_is_answered_at_the_end() -> None:
    turns = bedrock_turns(HI, assistant(made("a")))
    assert turns[-1] == ("user", [{"toolResult": {"toolUseId": "a", "content": [{"text": NO_RESULT}]}}])


def test_results_stand_before_what_the_user_says() -> None:
    [_, _, (_, content)] = bedrock_turns(HI, assistant(made("a")), HI, result("a", "1"))
    assert [*map(next, map(iter, content))] == ["toolResult", "text"]


@pytest.mark.parametrize("text", ["It is ", "It is\n\n", "It is\t \n"])
def test_what_the_assistant_began_to_say_ends_in_no_space(text: str) -> None:
    assert bedrock_turns(HI, {"role": "assistant", "content": text})[-1] == ("assistant", [{"text": "It is"}])
    part = [{"type": "text", "text": "So. "}, {"type": "text", "text": text}]
    assert bedrock_turns(HI, {"role": "assistant", "content": part})[-1][1][-1] == {"text": "It is"}
    assert bedrock_turns(HI, {"role": "assistant", "content": text}, HI)[1][1] == [{"text": text}], "history is kept"


@pytest.mark.parametrize("blank", ["", " ", "\n\t", None, [], [{"type": "text", "text": " "}]])
def test_blank_messages_are_left_out_at_the_end_too(blank: Any) -> None:
    for role in ("user", "assistant", "system"):
        assert bedrock_turns(HI, {"role": role, "content": blank}) == [("user", [{"text": "Hi"}])]
        assert gemini_contents(HI, {"role": role, "content": blank}) == [("user", [{"text": "Hi"}])]


def test_a_refusal_is_kept_beside_a_text_and_by_the_local_model_too() -> None:
    said = {"role": "assistant", "content": "Well.", "refusal": "I won't."}
    assert bedrock_turns(HI, said, HI)[1][1] == [{"text": "Well."}, {"text": "I won't."}]
    refused = {"role": "assistant", "content": None, "refusal": "I won't."}
    assert to_engine(call(HI, refused, HI))["messages"][2] == {"role": "assistant", "content": "I won't."}


# Images.


@pytest.mark.parametrize(
    "said", ["image/jpg", "IMAGE/JPEG;charset=utf-8", "image/webp", "application/octet-stream", ""]
)
@pytest.mark.parametrize("write", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_an_image_goes_with_its_true_type(said: str, write: Callable[[bytes], bytes]) -> None:
    asked = {"role": "user", "content": [image_part("jpeg", said, write)]}
    expected = {"image": {"format": "jpeg", "source": {"bytes": SAMPLES["jpeg"]}}}
    assert bedrock_turns(asked) == [("user", [expected])]
    [(_, [part])] = gemini_contents(asked)
    assert part["inlineData"]["mimeType"] == "image/jpeg"
    assert base64.urlsafe_b64decode(part["inlineData"]["data"]) == SAMPLES["jpeg"]


@pytest.mark.parametrize(
    ("kind", "subtype"), [("bedrock", "heic"), ("google", "gif"), ("bedrock", "bmp"), ("google", "pdf")]
)
def test_an_image_that_a_provider_cannot_read_is_missing_whatever_it_says(kind: str, subtype: str) -> None:
    body = call({"role": "user", "content": [image_part(subtype, "image/png")]}).body
    assert find_unsupported(KINDS[kind].capabilities, body) == Unsupported(missing=("messages.0.content",))


PICTURE = [{"type": "text", "text": "here"}, image_part("png", "image/jpeg"), {"type": "text", "text": "it is"}]


def test_an_image_in_a_result_is_a_part_of_the_result() -> None:
    history = [HI, assistant(made("a")), result("a", PICTURE)]
    [_, _, (_, [block])] = bedrock_turns(*history)
    image = {"image": {"format": "png", "source": {"bytes": SAMPLES["png"]}}}
    assert block["toolResult"]["content"] == [{"text": "here"}, image, {"text": "it is"}]
    [_, _, (_, [part])] = gemini_contents(*history)
    response = part["functionResponse"]
    assert response["response"] == {"result": "here\nit is"}
    [inner] = response["parts"]
    assert base64.urlsafe_b64decode(inner["inlineData"]["data"]) == SAMPLES["png"]


@pytest.mark.parametrize(("model", "subtype"), [("gemini-2.5-flash", "png"), ("gemini-3-pro", "heic")])
def test_an_image_that_a_result_cannot_hold_comes_behind_it(model: str, subtype: str) -> None:
    history = [HI, assistant(made("a")), result("a", [image_part(subtype)]), HI]
    [_, _, (_, results), (role, behind)] = gemini_contents(*history, model=model)
    assert [*results[0]] == ["functionResponse"]
    assert "parts" not in results[0]["functionResponse"]
    assert role == "user"
    assert "weather (a)" in behind[0]["text"]
    assert behind[1]["inlineData"]["mimeType"] == f"image/{subtype}"
    assert behind[2] == {"text": "Hi"}


def test_an_image_of_the_user_stands_apart_from_results() -> None:
    contents = gemini_contents(HI, assistant(made("a")), result("a"), {"role": "user", "content": [image_part("png")]})
    assert [role for role, _ in contents] == ["user", "model", "user", "user"]


def test_a_broken_image_in_a_result_is_the_callers_fault_by_its_message() -> None:
    broken = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]
    asked = call(HI, assistant(made("a")), result("a", broken))
    for codec in (to_converse, to_generate):
        assert param_of(codec, asked) == ("bad_request", "messages.2.content")


@pytest.mark.parametrize("content", ['{"a": {"$ref": "#/$defs/A"}}', "[1,2]", "7", "Status: 200 OK", None, ""])
def test_a_result_of_any_kind_is_an_object_for_gemini(content: str | None) -> None:
    [_, _, (_, [part])] = gemini_contents(HI, assistant(made("a")), result("a", content))
    assert part["functionResponse"]["response"] == {"result": content or ""}


# Marks of a prompt cache.


def marked(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {**MARK, **more}}


def named(asked: Call, kind: str = "bedrock") -> tuple[str, ...]:
    found = find_unsupported(KINDS[kind].capabilities, asked.body, asked.model)
    assert found.missing == ()
    return found.dropped


MARKED = [
    {"role": "system", "content": [marked("Long rules."), {"type": "text", "text": " And more."}]},
    {"role": "user", "content": [marked("Is A7 there?"), {"type": "text", "text": "Or A8?"}]},
]
MARKED_TOOLS = [TOOLS[0], {**TOOLS[1], "cache_control": MARK}]


def test_a_mark_becomes_a_cache_point_behind_what_it_marks() -> None:
    asked = call(*MARKED, tools=MARKED_TOOLS, model=HAIKU)
    arguments = to_converse(asked)
    assert bedrock_wire.objection(arguments) is None
    assert arguments["system"] == [{"text": "Long rules."}, POINT, {"text": " And more."}]
    assert arguments["messages"][0]["content"] == [{"text": "Is A7 there?"}, POINT, {"text": "Or A8?"}]
    assert [next(iter(tool)) for tool in arguments["toolConfig"]["tools"]] == ["toolSpec", "toolSpec", "cachePoint"]
    assert named(asked) == ()


def test_a_mark_of_a_tool_makes_one_point_even_if_a_choice_leaves_its_tool_out() -> None:
    tools = [{**TOOLS[0], "cache_control": MARK}, TOOLS[1]]
    only = {"type": "function", "function": {"name": "time"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [only]}}
    for choice, expected in (("auto", ["toolSpec", "cachePoint", "toolSpec"]), (allowed, ["toolSpec", "cachePoint"])):
        config = to_converse(call(tools=tools, tool_choice=choice, model=HAIKU))["toolConfig"]
        assert [next(iter(tool)) for tool in config["tools"]] == expected


@pytest.mark.parametrize(
    ("model", "points", "left_out"),
    [
        (NOVA, 2, ("tools.1.cache_control",)),
        (
            LLAMA,
            0,
            ("tools.1.cache_control", "messages.0.content.0.cache_control", "messages.1.content.0.cache_control"),
        ),
    ],
)
def test_a_mark_that_a_model_does_not_take_is_named(model: str, points: int, left_out: tuple[str, ...]) -> None:
    asked = call(*MARKED, tools=MARKED_TOOLS, model=model)
    assert named(asked) == left_out
    assert json.dumps(to_converse(asked)).count("cachePoint") == points


@pytest.mark.parametrize("kind", ["google", "local"])
def test_a_mark_is_named_where_no_model_takes_any(kind: str) -> None:
    asked = call(*MARKED, tools=MARKED_TOOLS)
    assert [name.rpartition(".")[2] for name in named(asked, kind)] == ["cache_control"] * 3
    made_of = to_generate(asked) if kind == "google" else to_engine(asked)
    assert "ephemeral" not in json.dumps(made_of)
    if kind == "google":
        assert made_of["systemInstruction"]["parts"] == [{"text": "Long rules. And more."}]


def test_the_lifetime_of_a_mark_is_kept_where_it_is_known() -> None:
    history = [{"role": "user", "content": [marked("A", ttl="1h"), marked("B", ttl="5m"), marked("C", ttl="24h")]}]
    hourly = to_converse(call(*history, model=HAIKU))["messages"][0]["content"]
    assert [b["cachePoint"].get("ttl") for b in hourly if "cachePoint" in b] == ["1h", "5m", None]
    assert named(call(*history, model=HAIKU)) == ("messages.0.content.2.cache_control.ttl",)
    older = to_converse(call(*history, model=OLDER))["messages"][0]["content"]
    assert [b["cachePoint"].get("ttl") for b in older if "cachePoint" in b] == [None, "5m", None]
    assert "messages.0.content.0.cache_control.ttl" in named(call(*history, model=OLDER))


def test_of_more_than_four_marks_the_first_and_the_last_three_are_kept() -> None:
    history = [{"role": "user", "content": [marked(text) for text in "ABCDE"]}]
    asked = call(*history, tools=MARKED_TOOLS, model=HAIKU)
    arguments = to_converse(asked)
    assert bedrock_wire.objection(arguments) is None
    assert POINT in arguments["toolConfig"]["tools"]
    content = arguments["messages"][0]["content"]
    assert [before["text"] for before, after in itertools.pairwise(content) if after == POINT] == [*"CDE"]
    assert named(asked) == ("messages.0.content.0.cache_control", "messages.0.content.1.cache_control")


def test_a_mark_on_a_whole_message_stands_behind_the_message() -> None:
    history = [
        {"role": "system", "content": "Rules.", "cache_control": MARK},
        {"role": "user", "content": "Hi", "cache_control": MARK},
        {**assistant(made("a")), "content": "I look."},
        {**result("a", "21"), "cache_control": MARK},
    ]
    asked = call(*history, model=HAIKU)
    arguments = to_converse(asked)
    assert bedrock_wire.objection(arguments) is None
    assert arguments["system"] == [{"text": "Rules."}, POINT]
    assert arguments["messages"][0]["content"] == [{"text": "Hi"}, POINT]
    assert arguments["messages"][2]["content"][1] == POINT
    assert named(asked) == ()


def test_a_mark_on_nothing_is_named_and_makes_no_point() -> None:
    asked = call({"role": "user", "content": [marked(" "), {"type": "text", "text": "Hi"}]}, model=HAIKU)
    assert named(asked) == ("messages.0.content.0.cache_control",)
    assert to_converse(asked)["messages"][0]["content"] == [{"text": "Hi"}]

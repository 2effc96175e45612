"""Field by field: what becomes of an OpenAI request on each wire, and of each wire's answer."""

import base64
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import Head, frames_to_chunks
from deployments.providers.base import Call
from deployments.providers.bedrock import codec as bedrock_codec
from deployments.providers.bedrock.codec import from_converse, to_converse
from deployments.providers.google import codec as google_codec
from deployments.providers.google.codec import from_generate, to_generate
from deployments.providers.time_limits import TimeLimits
from deployments.providers.translation.conversation import OPENING, arguments_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "Looks it up.", "parameters": SCHEMA}
TIME = {"name": "time", "description": ""}
TOOLS = [{"type": "function", "function": f} for f in (WEATHER, TIME)]
HI = {"role": "user", "content": "Hi"}


def call(*messages: dict[str, Any], model: str = "upstream", **fields: Any) -> Call:
    return Call({"model": "row", "messages": [*(messages or [HI])], **fields}, model, "row", TimeLimits())


def made(key: str, name: str = "weather", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def assistant(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [*calls]}


def result(key: str, content: Any = "21") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": key, "content": content}


def param_of(codec: Any, asked: Call) -> tuple[str, str | None]:
    with pytest.raises(AttemptFailed) as caught:
        codec(asked)
    return caught.value.outcome.kind, caught.value.outcome.param


# Requests.


@pytest.mark.parametrize(
    ("choice", "converse", "gemini"),
    [
        (None, None, {"mode": "AUTO"}),
        ("auto", None, {"mode": "AUTO"}),
        ("required", {"any": {}}, {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "time"}},
            {"tool": {"name": "time"}},
            {"mode": "ANY", "allowedFunctionNames": ["time"]},
        ),
    ],
)
def test_tools_and_how_freely_they_are_offered(choice: Any, converse: Any, gemini: Any) -> None:
    asked = call(tools=TOOLS, tool_choice=choice)
    config = to_converse(asked)["toolConfig"]
    assert config.get("toolChoice") == converse
    assert config["tools"] == [
        {"toolSpec": {"name": "weather", "description": "Looks it up.", "inputSchema": {"json": SCHEMA}}},
        {"toolSpec": {"name": "time", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
    ]
    body = to_generate(asked)
    assert body["toolConfig"]["functionCallingConfig"] == gemini
    assert body["tools"][0]["functionDeclarations"] == [
        {"name": "weather", "description": "Looks it up.", "parametersJsonSchema": SCHEMA},
        {"name": "time"},
    ]


def test_a_choice_among_some_tools_offers_only_those() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    asked = call(tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [t["toolSpec"]["name"] for t in to_converse(asked)["toolConfig"]["tools"]] == ["time"]
    assert [f["name"] for f in to_generate(asked)["tools"][0]["functionDeclarations"]] == ["time"]


def test_a_strict_tool_is_one_on_either_wire() -> None:
    asked = call(tools=[{"type": "function", "function": {**WEATHER, "strict": True}}])
    assert to_converse(asked)["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    assert to_generate(asked)["toolConfig"]["functionCallingConfig"] == {"mode": "VALIDATED"}


def test_none_may_be_called_though_the_history_did() -> None:
    for asked in (call(tools=TOOLS, tool_choice="none"), call()):
        assert "toolConfig" not in to_converse(asked)
    history = [HI, assistant(made("a", "time")), result("a"), HI]
    for asked in (call(*history, tools=TOOLS, tool_choice="none"), call(*history)):
        [tool] = to_converse(asked)["toolConfig"]["tools"]
        assert tool["toolSpec"]["name"] == "time"
        assert "not call" in tool["toolSpec"]["description"]
    asked = call(*history, tools=TOOLS, tool_choice="none")
    assert to_generate(asked)["toolConfig"]["functionCallingConfig"] == {"mode": "NONE"}
    assert "tools" not in to_generate(call(*history))


@pytest.mark.parametrize("codec", [to_converse, to_generate])
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (call(tool_choice="required"), "tool_choice"),
        (call(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "who"}}), "tool_choice"),
        (call(tools=[{"type": "function", "function": {}}]), "tools"),
        (call(HI, assistant({"id": "a", "type": "function"}), result("a")), "messages.1.tool_calls"),
        (call(HI, result("a")), "messages.1.tool_call_id"),
        (call(HI, {"role": "tool", "content": "1"}), "messages.1.tool_call_id"),
        (
            call({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]}),
            "messages.0.content",
        ),
    ],
)
def test_what_makes_no_sense_is_the_callers_fault_by_its_name(codec: Any, asked: Call, param: str) -> None:
    assert param_of(codec, asked) == ("bad_request", param)


def test_results_are_one_turn_of_the_user_and_know_their_functions() -> None:
    parts = [{"type": "text", "text": "2"}, {"type": "text", "text": "1"}]
    history = [HI, assistant(made("a"), made("b", "time", '{"at": 1}')), result("b", parts), result("a", ""), HI]
    [_, said, given] = to_converse(call(*history, tools=TOOLS))["messages"]
    assert said["content"] == [
        {"toolUse": {"toolUseId": "a", "name": "weather", "input": {}}},
        {"toolUse": {"toolUseId": "b", "name": "time", "input": {"at": 1}}},
    ]
    assert given["content"] == [
        {"toolResult": {"toolUseId": "a", "content": []}},
        {"toolResult": {"toolUseId": "b", "content": [{"text": "21"}]}},
        {"text": "Hi"},
    ]
    [_, _, given] = to_generate(call(*history, tools=TOOLS))["contents"]
    assert given["parts"] == [
        {"functionResponse": {"id": "a", "name": "weather", "response": {"result": ""}}},
        {"functionResponse": {"id": "b", "name": "time", "response": {"result": "21"}}},
        {"text": "Hi"},
    ]


@pytest.mark.parametrize("key", ["functions.weather:0", "x" * 65, "ключ", "a b"])
def test_an_id_of_another_alphabet_is_one_of_bedrocks_in_call_and_result_alike(key: str) -> None:
    [_, said, given] = to_converse(call(HI, assistant(made(key)), result(key)))["messages"]
    used = said["content"][0]["toolUse"]["toolUseId"]
    assert given["content"][0]["toolResult"]["toolUseId"] == used
    assert used.startswith("call_")
    assert len(used) <= 64
    again = to_converse(call(HI, assistant(made(key)), result(key)))["messages"]
    assert again[1]["content"][0]["toolUse"]["toolUseId"] == used, "the same in the next request"


def test_an_id_that_comes_twice_means_the_call_before_it() -> None:
    history = [HI, assistant(made("0")), result("0"), assistant(made("0", "time")), result("0")]
    contents = to_generate(call(*history))["contents"]
    given = [c["parts"][0]["functionResponse"] for c in contents[2::2]]
    assert [g["name"] for g in given] == ["weather", "time"]
    used = [m["content"][0]["toolUse"]["toolUseId"] for m in to_converse(call(*history))["messages"][1::2]]
    assert len({*used}) == 2


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (None, {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": [1]}),
        ('{"a": NaN}', {"arguments": '{"a": NaN}'}),
        ('{"a": "\\ud800"}', {"arguments": '{"a": "\\ud800"}'}),
    ],
)
def test_arguments_are_an_object_whatever_the_model_wrote(text: Any, arguments: dict[str, Any]) -> None:
    assert arguments_of(text) == arguments


def test_an_image_goes_as_its_bytes() -> None:
    url = f"data:image/jpg;base64,{base64.b64encode(b'pixels').decode()}"
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
    asked = call({"role": "user", "content": parts})
    [message] = to_converse(asked)["messages"]
    assert message["content"][1] == {"image": {"format": "jpeg", "source": {"bytes": b"pixels"}}}
    [content] = to_generate(asked)["contents"]
    assert content["parts"][1] == {"inlineData": {"mimeType": "image/jpeg", "data": "cGl4ZWxz"}}


def test_a_schema_for_the_answer() -> None:
    wanted = {"name": "place", "description": "A place.", "strict": True, "schema": SCHEMA}
    asked = call(response_format={"type": "json_schema", "json_schema": wanted})
    text = to_converse(asked)["outputConfig"]["textFormat"]
    schema = text["structure"]["jsonSchema"]
    assert (text["type"], schema["name"], schema["description"]) == ("json_schema", "place", "A place.")
    assert json.loads(schema["schema"]) == {**SCHEMA, "additionalProperties": False}
    config = to_generate(asked)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == {"title": "place", "description": "A place.", **SCHEMA}
    config = to_generate(call(response_format={"type": "json_object"}))["generationConfig"]
    assert config == {"responseMimeType": "application/json"}


def test_effort_is_a_level_or_in_older_geminis_a_budget() -> None:
    assert to_converse(call(reasoning_effort="minimal"))["outputConfig"] == {"effort": "low"}
    config = to_generate(call(reasoning_effort="max"))["generationConfig"]
    assert config["thinkingConfig"] == {"thinkingLevel": "XHIGH"}
    older = to_generate(call(model="gemini-2.5-flash", reasoning_effort="none"))["generationConfig"]
    assert older["thinkingConfig"] == {"thinkingBudget": 0}


def test_blank_text_is_left_out_and_who_speaks_first_is_the_user() -> None:
    history = [
        {"role": "system", "content": ""},
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "refusal": "I won't.", "content": None},
        {"role": "user", "content": ""},
    ]
    arguments = to_converse(call(*history))
    assert "system" not in arguments
    assert [(m["role"], m["content"]) for m in arguments["messages"]] == [
        ("user", [{"text": OPENING}]),
        ("assistant", [{"text": "How can I help?"}]),
        ("user", [{"text": "Hi"}]),
        ("assistant", [{"text": "I won't."}]),
    ]
    assert [c["role"] for c in to_generate(call(*history))["contents"]] == ["user", "model", "user", "model"]


def test_a_foreign_history_has_a_signature_only_where_gemini_3_looks_for_one() -> None:
    history = [HI, assistant(made("a"), made("b")), result("a"), result("b"), assistant(made("c")), result("c")]
    unsigned = base64.b64encode(b"skip_thought_signature_validator").decode()

    def signatures(model: str) -> list[Any]:
        contents = to_generate(call(*history, model=model))["contents"]
        return [p.get("thoughtSignature") for c in contents for p in c["parts"] if "functionCall" in p]

    assert signatures("gemini-3-pro") == [unsigned, None, unsigned]
    assert signatures("gemini-2.5-flash") == [None, None, None]


@pytest.mark.parametrize("signature", ["+//+", "-__-"])
def test_a_signature_is_read_in_either_alphabet(signature: str) -> None:
    kept = {"google": {"thought_signature": signature}}
    contents = to_generate(call(HI, assistant(made("a", extra_content=kept)), result("a")))["contents"]
    assert base64.urlsafe_b64decode(contents[1]["parts"][0]["thoughtSignature"]) == b"\xfb\xff\xfe"


# Answers.


def chunks_of(codec: Any, *events: dict[str, Any]) -> list[ChatCompletionChunk]:
    frames = b"".join(codec.frames(event)[0] for event in events)
    return [ChatCompletionChunk.model_validate(chunk) for chunk in frames_to_chunks(frames)]


def candidate(index: int, *parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    made = {"content": {"role": "model", "parts": [*parts]}, "index": index, **more}
    return {**made, "finishReason": finish} if finish else made


def test_all_candidates_are_choices_of_their_own() -> None:
    body, _ = from_generate({"candidates": [candidate(0, {"text": "a"}), candidate(1, {"text": "b"})]}, call(n=2))
    choices = ChatCompletion.model_validate_json(body).choices
    assert [(c.index, c.message.content, c.finish_reason) for c in choices] == [(0, "a", "stop"), (1, "b", "stop")]

    codec = google_codec.StreamCodec(Head.new("row"))
    first = chunks_of(codec, {"candidates": [candidate(0, {"text": "a"}), candidate(1, {"text": "b"}, finish=None)]})
    assert not codec.finished
    assert [c.choices[0].index for c in first if c.choices[0].delta.role] == [0, 1]
    assert chunks_of(codec, {"candidates": [candidate(1, finish="MAX_TOKENS")]}) == []
    assert codec.finished
    ends = [ChatCompletionChunk.model_validate(c).choices[0] for c in frames_to_chunks(codec.end())]
    assert [(c.index, c.finish_reason) for c in ends] == [(0, "stop"), (1, "length")]
    assert codec.tail == b""


def test_log_probabilities_are_openais() -> None:
    paris, rome = {"token": "Île", "logProbability": -0.5}, {"token": "Rome", "logProbability": -2}
    result = {"chosenCandidates": [paris, rome], "topCandidates": [{"candidates": [paris, rome]}]}
    said = candidate(0, {"text": "ÎleRome"}, logprobsResult=result)
    body, _ = from_generate({"candidates": [said]}, call(logprobs=True))
    whole = ChatCompletion.model_validate_json(body).choices[0].logprobs
    codec = google_codec.StreamCodec(Head.new("row"))
    streamed = [c.choices[0].logprobs for c in chunks_of(codec, {"candidates": [said]}) if c.choices[0].logprobs]
    for logprobs in (whole, *streamed):
        assert logprobs is not None
        assert logprobs.content is not None
        [first, second] = logprobs.content
        assert (first.token, first.logprob, bytes(first.bytes or ())) == ("Île", -0.5, "Île".encode())
        assert [top.token for top in first.top_logprobs] == ["Île", "Rome"]
        assert second.top_logprobs == []
    assert len(streamed) == 1


def test_a_prompt_that_is_blocked_in_a_stream_is_an_answer() -> None:
    codec = google_codec.StreamCodec(Head.new("row"))
    chunks = chunks_of(codec, {"promptFeedback": {"blockReason": "SAFETY"}})
    assert [c.choices[0].finish_reason for c in chunks] == [None]
    assert [c["choices"][0]["finish_reason"] for c in frames_to_chunks(codec.tail)] == ["content_filter"]
    assert codec.finished


EMPTY: list[dict[str, Any]] = [{"content": {"role": "model"}}, {"content": {"parts": None}}, candidate(0, {"text": ""})]


@pytest.mark.parametrize("said", EMPTY)
@pytest.mark.parametrize("usage", [{}, {"promptTokenCount": 3, "totalTokenCount": 3}])
def test_an_answer_of_gemini_that_holds_nothing_and_cost_nothing_is_none(said: Any, usage: Any) -> None:
    event = {"candidates": [{**said, "finishReason": "STOP"}], "usageMetadata": usage}
    with pytest.raises(AttemptFailed) as caught:
        from_generate(event, call())
    codec = google_codec.StreamCodec(Head.new("row"))
    assert codec.frames(event)[1] is False
    assert not codec.finished
    assert codec.end_failure is not None
    assert caught.value.outcome.kind == codec.end_failure.outcome.kind == "empty"


@pytest.mark.parametrize("finish", ["MAX_TOKENS", "STOP", "SAFETY"])
def test_an_answer_of_gemini_that_ends_without_text_for_a_reason_is_whole(finish: str) -> None:
    usage = {"promptTokenCount": 3, "thoughtsTokenCount": 5 if finish == "STOP" else 0}
    event = {"candidates": [{"finishReason": finish}]}
    from_generate({**event, "usageMetadata": usage}, call())
    codec = google_codec.StreamCodec(Head.new("row"))
    codec.frames(event)
    codec.frames({"usageMetadata": usage})
    assert codec.end_failure is None


def test_an_answer_of_gemini_whose_tokens_come_behind_its_end_has_begun() -> None:
    codec = google_codec.StreamCodec(Head.new("row"))
    assert codec.frames({"candidates": [{"finishReason": "STOP"}]})[1] is False
    assert codec.frames({"usageMetadata": {"promptTokenCount": 3, "thoughtsTokenCount": 5}}) == (b"", True)
    assert codec.finished
    assert [c["choices"][0]["finish_reason"] for c in frames_to_chunks(codec.tail)] == ["stop"]


def test_every_part_of_gemini_is_in_the_answer() -> None:
    image, sound = ({"inlineData": {"mimeType": kind, "data": "AAAA"}} for kind in ("image/png", "audio/pcm"))
    code = {"executableCode": {"language": "PYTHON", "code": "print(6 * 7)"}}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}}
    event = {"candidates": [candidate(0, {"text": "See:"}, code, result, image, sound)]}
    body, _ = from_generate(event, call())
    codec = google_codec.StreamCodec(Head.new("row"))
    deltas = [one["choices"][0]["delta"] for one in frames_to_chunks(codec.frames(event)[0])]
    for said in (json.loads(body)["choices"][0]["message"], {k: v for delta in deltas for k, v in delta.items()}):
        assert said["content"] == "See:\n```python\nprint(6 * 7)\n```\n\n```\n42\n```\n"
        assert said["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
        assert said["extra_content"] == {"google": {"parts": [sound]}}
    to_generate(call(HI, json.loads(body)["choices"][0]["message"], HI))  # and it can go back


def test_a_call_without_an_id_is_given_one() -> None:
    said = candidate(0, {"functionCall": {"name": "time"}})
    body, _ = from_generate({"candidates": [said]}, call(tools=TOOLS))
    choice = ChatCompletion.model_validate_json(body).choices[0]
    [called] = choice.message.tool_calls or ()
    assert called.id.startswith("call_")
    assert called.model_dump()["function"] == {"name": "time", "arguments": "{}"}
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


def converse(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": [*content]}}, "stopReason": stop}


def test_one_call_at_most_holds_back_the_others() -> None:
    uses = [{"toolUse": {"toolUseId": key, "name": "time", "input": {}}} for key in "ab"]
    body, _ = from_converse(converse(*uses, stop="tool_use"), call(tools=TOOLS, parallel_tool_calls=False))
    assert [c.id for c in ChatCompletion.model_validate_json(body).choices[0].message.tool_calls or ()] == ["a"]


def test_a_finish_reason_says_what_the_answer_is() -> None:
    assert bedrock_codec.finish_of("end_turn", calls=1) == "tool_calls"
    assert bedrock_codec.finish_of("tool_use", calls=0) == "stop"
    assert bedrock_codec.finish_of("max_tokens", calls=1) == "length"
    assert google_codec.finish_of("STOP", calls=1) == "tool_calls"
    assert google_codec.finish_of("MAX_TOKENS", calls=1) == "length"


def test_reasoning_without_a_signature_is_shown_and_not_sent_back() -> None:
    body, _ = from_converse(converse({"reasoningContent": {"reasoningText": {"text": "hmm"}}}, {"text": "Hi"}), call())
    message = json.loads(body)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hi", "refusal": None, "reasoning_content": "hmm"}
    assert to_converse(call(HI, message, HI))["messages"][1]["content"] == [{"text": "Hi"}]


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "max", {"thinkingLevel": "HIGH"}),
    ],
)
def test_a_model_that_can_not_but_think_gets_the_least_that_it_takes(
    model: str, effort: str, thinking: dict[str, Any]
) -> None:
    assert to_generate(call(model=model, reasoning_effort=effort))["generationConfig"]["thinkingConfig"] == thinking

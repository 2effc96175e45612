"""How a server that speaks OpenAI's API is told the same in the words that it takes."""

from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.providers.base import Call
from deployments.providers.openai.dialect import KEPT_SECONDS, Dialect, Dialects, is_openai, known_dialect, lesson
from deployments.providers.openai.request import chat_body
from deployments.providers.time_limits import TimeLimits

HI = {"role": "user", "content": "Hi"}
OPENAI, FOREIGN = known_dialect("api.openai.com", "gpt-4.1"), known_dialect("llm.example", "llama")


def call(*messages: dict[str, Any], **fields: Any) -> Call:
    return Call({"model": "row", "messages": [*(messages or [HI])], **fields}, "upstream", "row", TimeLimits())


def called(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": "weather", "arguments": "{}"}, **more}


def body(dialect: Dialect, *messages: dict[str, Any], stream: bool = False, **fields: Any) -> dict[str, Any]:
    return chat_body(call(*messages, **fields), stream=stream, dialect=dialect)


def rejected(message: str, param: str | None = None) -> Outcome:
    return Outcome("rejected", status=400, message=message, param=param)


@pytest.mark.parametrize("dialect", [OPENAI, FOREIGN])
def test_no_server_gets_what_another_providers_answer_added(dialect: Dialect) -> None:
    said = {
        **{"role": "assistant", "content": None, "tool_calls": [called("a", extra_content={"google": {}})]},
        **{"reasoning_content": "hmm", "extra_content": {"bedrock": {}}},
    }
    answered = {"role": "tool", "tool_call_id": "a", "content": "21"}
    plain = {"role": "assistant", "content": None, "tool_calls": [called("a")]}
    assert body(dialect, HI, said, answered)["messages"] == [HI, plain, answered]


@pytest.mark.parametrize("model", ["deepseek-v4", "moonshotai/Kimi-K2", "openai/gpt-oss-120b", "Qwen/Qwen3-32B"])
def test_a_family_that_reads_its_own_thoughts_again_gets_them_back(model: str) -> None:
    said = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    assert body(known_dialect("llm.example", model), HI, said)["messages"] == [HI, said]


def test_gemini_behind_openais_api_gets_its_signatures_back() -> None:
    signed = {"google": {"thought_signature": "c2ln"}}
    said = {"role": "assistant", "content": None, "tool_calls": [called("a", extra_content=signed)]}
    sent = body(known_dialect("generativelanguage.googleapis.com", "gemini-3-pro"), HI, said)["messages"][1]
    assert sent["tool_calls"][0]["extra_content"] == signed


def test_what_an_answer_has_without_a_value_does_not_come_back() -> None:
    echo = {"role": "assistant", "content": "4", "refusal": None, "annotations": [], "audio": None, "tool_calls": None}
    assert body(FOREIGN, HI, echo)["messages"] == [HI, {"role": "assistant", "content": "4"}]


def test_thoughts_in_openrouters_words_go_back_to_it_alone() -> None:
    said = {"role": "assistant", "content": "4", "reasoning": "2+2", "reasoning_details": [{"type": "reasoning.text"}]}
    assert body(known_dialect("openrouter.ai", "x/y"), HI, said)["messages"] == [HI, said]
    for dialect in (OPENAI, FOREIGN, known_dialect("api.deepseek.com", "deepseek-v4")):
        assert body(dialect, HI, said)["messages"] == [HI, {"role": "assistant", "content": "4"}]


def test_an_answer_that_was_thoughts_alone_is_an_empty_text_or_left_out_where_that_is_refused() -> None:
    said = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": None, "function_call": None}
    for dialect in (OPENAI, FOREIGN):
        assert body(dialect, HI, said, HI)["messages"] == [HI, {"role": "assistant", "content": ""}, HI]
    assert body(known_dialect("api.mistral.ai", "m"), HI, said, HI)["messages"] == [HI, HI]
    bare = {"role": "assistant", "content": None}
    assert body(FOREIGN, HI, bare, HI)["messages"][1] == {"role": "assistant", "content": ""}


def test_a_field_of_a_message_without_a_value_is_not_sent() -> None:
    assert body(FOREIGN, {**HI, "name": None})["messages"] == [HI]
    answered = {"role": "tool", "tool_call_id": "a", "content": "21", "name": None}
    said = {"role": "assistant", "content": None, "tool_calls": [called("a", index=0)]}
    assert body(FOREIGN, HI, said, answered)["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [called("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "21"},
    ]


def test_a_refusal_of_an_earlier_answer_comes_back() -> None:
    said = {"role": "assistant", "content": None, "refusal": "I won't."}
    assert body(FOREIGN, HI, said)["messages"] == [HI, said]


def test_instructions_go_as_system_where_no_developer_is_known() -> None:
    told = {"role": "developer", "content": "Be brief."}
    assert body(OPENAI, told, HI)["messages"][0]["role"] == "developer"
    assert body(FOREIGN, told, HI)["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("host", "model", "name"),
    [
        ("api.openai.com", "gpt-5.4-mini", "max_completion_tokens"),
        ("api.openai.com", "o3", "max_completion_tokens"),
        ("127.0.0.1", "openai/gpt-5", "max_completion_tokens"),
        ("api.openai.com", "gpt-4.1", "max_tokens"),
        ("127.0.0.1", "llama", "max_tokens"),
        ("api.mistral.ai", "mistral-large", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_knows(host: str, model: str, name: str) -> None:
    sent = body(known_dialect(host, model), max_tokens=50)
    assert {k: v for k, v in sent.items() if k.startswith("max")} == {name: 50}


def test_of_two_limits_the_newer_word_is_heeded() -> None:
    sent = body(known_dialect("api.openai.com", "o3"), max_tokens=50, max_completion_tokens=60)
    assert {k: v for k, v in sent.items() if k.startswith("max")} == {"max_completion_tokens": 60}


def test_ids_of_calls_are_the_same_for_a_call_and_its_result_however_the_server_wants_them() -> None:
    key = "call_" + "x" * 60
    said = {"role": "assistant", "content": None, "tool_calls": [called(key)]}
    answered = {"role": "tool", "tool_call_id": key, "content": "21"}
    for dialect, length in ((OPENAI, 40), (known_dialect("api.mistral.ai", "m"), 9)):
        first, second = body(dialect, HI, said, answered)["messages"][1:]
        assert first["tool_calls"][0]["id"] == second["tool_call_id"]
        assert len(second["tool_call_id"]) == length
    assert body(FOREIGN, HI, said, answered)["messages"][2]["tool_call_id"] == key


def test_what_has_no_value_is_not_sent() -> None:
    sent = body(OPENAI, temperature=None, tools=[], tool_choice="auto", parallel_tool_calls=True, stop=None)
    assert sent.keys() == {"model", "messages", "stream"}


def test_usage_of_a_stream_is_asked_for_unless_the_server_refuses_that() -> None:
    assert body(FOREIGN, stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(Dialect(stream_usage=False), stream=True)


@pytest.mark.parametrize(
    ("message", "param", "changed"),
    [
        ("Extra inputs are not permitted", "stream_options", {"stream_usage": False}),
        (
            "Unsupported parameter. Use 'max_completion_tokens' instead.",
            "max_tokens",
            {"limit": "max_completion_tokens"},
        ),
        ("Extra inputs are not permitted", "max_completion_tokens", {"limit": "max_tokens"}),
        ("unknown field `max_completion_tokens`", None, {"limit": "max_tokens"}),
        ("messages[0].role: unknown variant `developer`, expected one of `system`", None, {"developer": False}),
        ("The reasoning_content in the thinking mode must be passed back to the API.", None, {"reasoning": True}),
        ("property 'reasoning_content' is unsupported", None, {"reasoning": False}),
        ("Unsupported parameter: 'stop' is not supported with this model.", "stop", {"stop": False}),
        ("Argument not supported on this model: stop", None, {"stop": False}),
        ("Function tools with reasoning_effort are not supported for gpt-5.5", None, {"effort_with_tools": False}),
        ("Tool call id was x but must be a-z, A-Z, 0-9, with a length of 9.", None, {"longest_id": 9}),
        ("Invalid 'messages[1].tool_calls[0].id': string too long, maximum length 40", None, {"longest_id": 40}),
        ("Unknown parameter: 'messages[0].content[0].prompt_cache_breakpoint'.", None, {"marks": "none"}),
        ("Unknown parameter.", "messages[0].content[0].prompt_cache_breakpoint", {"marks": "none"}),
    ],
)
def test_a_refusal_of_our_own_words_is_a_lesson(message: str, param: str | None, changed: dict[str, Any]) -> None:
    was = Dialect(developer=True, reasoning=changed.get("reasoning") is False)
    learned = lesson(was, rejected(message, param))
    assert learned is not None
    assert {name: getattr(learned, name) for name in changed} == changed
    assert lesson(learned, rejected(message, param)) is None


@pytest.mark.parametrize("message", ["no", "temperature is not supported", "max_completion_tokens is too large: 9"])
def test_a_refusal_of_what_the_client_asked_for_is_none(message: str) -> None:
    assert lesson(Dialect(), rejected(message)) is None


def test_what_was_learned_is_remembered_for_the_model_and_for_a_bounded_number_of_models() -> None:
    dialects = Dialects("llm.example")
    dialects.learn("a", Dialect(stream_usage=False))
    assert not dialects.of("a").stream_usage
    assert dialects.of("b").stream_usage
    for index in range(1024):
        dialects.learn(f"m{index}", Dialect(stream_usage=False))
    assert (dialects.of("a").stream_usage, dialects.of("m0").stream_usage) == (True, False)


def test_what_was_learned_is_forgotten_after_an_hour() -> None:
    now = [0.0]
    dialects = Dialects("llm.example", lambda: now[0])
    dialects.learn("a", Dialect(stop=False))
    now[0] = KEPT_SECONDS - 1
    assert not dialects.of("a").stop
    now[0] = KEPT_SECONDS
    assert dialects.of("a").stop


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Invalid 'stop': array too long. Expected an array with maximum length 4, but got 5.", "stop"),
        ("'max_completion_tokens' is too large: 5000. This model supports at most 1000.", "max_completion_tokens"),
        ("Invalid schema for response_format 'developer': no type", "response_format"),
        ("Invalid schema for response_format 'developer': no type", None),
        ("Unknown parameter: 'grammar'. Supported parameters: stop, stream_options, max_completion_tokens", None),
    ],
)
def test_a_refused_value_and_a_clients_own_word_teach_nothing(message: str, param: str | None) -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "developer"}}, "stop": ["a"]}
    assert lesson(Dialect(developer=True), rejected(message, param), asked) is None


def test_what_one_request_has_changed_it_does_not_change_back() -> None:
    back = rejected("unknown field `max_completion_tokens`")
    assert lesson(Dialect("max_completion_tokens"), back, None, {"limit"}) is None
    assert lesson(Dialect("max_completion_tokens"), back, None, {"stop"}) == Dialect("max_tokens")


def test_openai_is_known_by_its_hosts() -> None:
    assert all(is_openai(h) for h in ("api.openai.com", "eu.api.openai.com", "x.openai.azure.com"))
    assert not any(is_openai(h) for h in ("localhost", "api.deepseek.com", "notopenai.com"))


def test_at_azures_host_of_many_makers_the_model_tells_whose_rules_hold() -> None:
    host = "x.services.ai.azure.com"
    assert all(is_openai(host, model) for model in ("gpt-5.4-mini", "o3", "gpt-4.1"))
    assert not any(is_openai(host, model) for model in ("DeepSeek-R1", "Mistral-Large-3", "gpt-oss-120b", "grok-4"))
    assert known_dialect(host, "DeepSeek-R1").reasoning


def test_a_model_that_takes_tools_only_if_it_does_not_think_is_told_so_unless_the_client_says_otherwise() -> None:
    dialect, tools = Dialect(effort_with_tools=False), [{"type": "function", "function": {"name": "f"}}]
    assert body(dialect, tools=tools)["reasoning_effort"] == "none"
    assert body(dialect, tools=tools, reasoning_effort="low")["reasoning_effort"] == "low"
    assert "reasoning_effort" not in body(dialect)


def test_mistrals_seed_has_another_name() -> None:
    sent = body(known_dialect("api.mistral.ai", "mistral-large"), seed=7)
    assert (sent.get("random_seed"), "seed" in sent) == (7, False)


def test_openai_gets_a_conversations_own_key_and_no_other_server_does() -> None:
    keyed = Call(call().body, "gpt-4.1", "row", TimeLimits(), cache_key="abc")
    assert chat_body(keyed, stream=False, dialect=OPENAI)["prompt_cache_key"] == "abc"
    assert "prompt_cache_key" not in chat_body(keyed, stream=False, dialect=FOREIGN)
    assert "prompt_cache_key" not in body(OPENAI)
    own = Call({**call().body, "prompt_cache_key": "mine"}, "gpt-4.1", "row", TimeLimits(), cache_key="abc")
    assert chat_body(own, stream=False, dialect=OPENAI)["prompt_cache_key"] == "mine"
    refused = rejected("Unknown parameter: 'prompt_cache_key'.", "prompt_cache_key")
    learned = lesson(
        OPENAI, Outcome("rejected", status=400, message=refused.message, param=refused.param, code="unknown_parameter")
    )
    assert learned is not None
    assert "prompt_cache_key" not in chat_body(keyed, stream=False, dialect=learned)

"""A client of Messages, and a server that is asked by them: the request and the answer pass as they are."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.messages_events import CITED, HIDDEN, HITS, SEARCH, THINKING, WRITTEN
from tests.fakes.server import Behaviour, status
from tests.fakes.vendors import bedrock_claude
from tests.fakes.vendors.anthropic import BETAS
from tests.providers.messages_world import BEDROCK, CHAT, HI, NATIVE, Door, Fakes, dropped_in, fakes, run_door

SEARCHES = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
LOOK = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
MARK = {"type": "ephemeral", "ttl": "1h"}
# As Claude Code 2.1.197 writes one, with the headers that it sends.
AGENT_BETAS = [
    *("claude-code-20250219", "interleaved-thinking-2025-05-14", "thinking-token-count-2026-05-13"),
    *("context-management-2025-06-27", "prompt-caching-scope-2026-01-05", "mid-conversation-system-2026-04-07"),
    *("effort-2025-11-24", "context-1m-2025-08-07"),
]
AGENT: dict[str, Any] = {
    "max_tokens": 64_000,
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.e3a; cc_entrypoint=cli;"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": MARK},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>Today.</system-reminder>"},
                {"type": "text", "text": "Read a.txt", "cache_control": MARK},
            ],
        },
        {"role": "system", "content": "Available agent types: none."},
    ],
    "tools": [LOOK],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s"})},
}


@pytest.fixture
def made() -> Iterator[Fakes]:
    with fakes() as world:
        yield world
        world.unobjected()


def betas_of(made: Fakes, at: int = -1) -> list[str]:
    value = made.native.received[at].headers.get("anthropic-beta", "")
    return value.split(",") if value else []


def result(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": block["id"], "content": "found"}


def results(answer: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [result(block) for block in answer["content"] if block["type"] == "tool_use"]}


def said(answer: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": answer["content"]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_request_goes_upstream_byte_for_byte(made: Fakes, stream: bool) -> None:
    async def work(door: Door) -> None:
        headers = {"anthropic-beta": ",".join(AGENT_BETAS), "anthropic-version": "2023-06-01"}
        response = await door.ask(headers=headers, stream=stream, **AGENT)
        assert response.status_code == 200, response.text
        assert dropped_in(response) == []
        (body,) = made.upstream
        sent = {"model": "claude-opus-4-8", **({"stream": True} if stream else {})}
        assert {name: json.dumps(value) for name, value in body.items()} == {
            name: json.dumps(value) for name, value in {**AGENT, **sent}.items()
        }
        assert betas_of(made) == AGENT_BETAS

    run_door(made, work, model="claude-opus-4-8")


def test_a_clients_betas_stand_beside_the_providers_own(made: Fakes) -> None:
    async def work(door: Door) -> None:
        many = [("anthropic-beta", "effort-2025-11-24, claude-code-20250219"), ("Anthropic-Beta", "a b")]
        request = {"model": NATIVE, "max_tokens": 9, "messages": [HI]}
        response = await door.http.post("/v1/messages", json=request, headers=many)
        assert betas_of(made) == ["claude-code-20250219", "effort-2025-11-24"]
        assert dropped_in(response) == ["anthropic-beta"]
        await door.ask()
        assert betas_of(made) == ["claude-code-20250219"]

    run_door(made, work, betas=["claude-code-20250219"])


def test_betas_that_a_server_does_not_know_are_left_out_together_named_and_remembered(made: Fakes) -> None:
    odd = ["structured-outputs-2029-12-15", "advisor-tool-2029-03-01"]
    headers = {"anthropic-beta": ",".join([odd[0], *BETAS, odd[1]])}

    async def work(door: Door) -> None:
        for calls in (2, 1):
            made.native.received.clear()
            response = await door.ask(headers=headers)
            assert response.status_code == 200, response.text
            assert dropped_in(response) == odd
            assert (len(made.native.received), made.refused()) == (calls, ["anthropic.betas"] * (calls - 1))
        assert betas_of(made) == list(BETAS)
        strict = await door.ask(headers={**headers, "x-breakwater-drop-unsupported": "none"})
        assert strict.status_code == 400

    run_door(made, work)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"context_management": {"edits": []}}, "context_management"),
        ({"metadata": {"user_id": "u", "more": "m"}}, "metadata"),
        ({"metadata": {"user_id": "u" * 300}}, "metadata"),
        ({"client_metadata": {"a": "b"}}, "client_metadata"),
    ],
)
def test_a_hint_that_anthropic_refuses_is_left_out_named_and_remembered(
    made: Fakes, field: dict[str, Any], name: str
) -> None:
    async def work(door: Door) -> None:
        for calls in (2, 1):
            made.native.received.clear()
            response = await door.ask(service_tier="standard_only", **field)
            assert (response.status_code, dropped_in(response)) == (200, [name]), response.text
            assert (len(made.native.received), made.refused()) == (calls, ["anthropic.fields"] * (calls - 1))
        assert made.upstream[-1]["service_tier"] == "standard_only"
        assert name not in made.upstream[-1]

    run_door(made, work)


def test_what_its_servers_have_done_comes_whole_and_goes_back(made: Fakes) -> None:
    made.wire.before, made.wire.citations = [THINKING, HIDDEN, SEARCH, HITS], [CITED]
    made.wire.usage = WRITTEN

    async def work(door: Door) -> None:
        answer = await door.whole(tools=[SEARCHES])
        assert answer["content"] == made.wire.content(["Paris is the capital."])
        assert (answer["model"], answer["usage"]) == (NATIVE, WRITTEN)
        assert answer["id"].startswith("msg_")
        assert answer["id"] != "msg_01Upstream"
        response = await door.ask(HI, said(answer), {"role": "user", "content": "And?"}, tools=[SEARCHES])
        assert (response.status_code, dropped_in(response)) == (200, [])
        assert made.upstream[-1]["messages"][1] == said(answer)
        assert made.upstream[-1]["tools"] == [SEARCHES]

    run_door(made, work)


def test_what_only_anthropic_takes_goes_there_as_it_is(made: Fakes) -> None:
    headers = {"anthropic-beta": "mcp-client-2025-11-20,files-api-2025-04-14"}
    document = {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}
    given = [
        {**document, "citations": {"enabled": True}, "cache_control": {"type": "ephemeral"}, "context": "C"},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "url", "url": "https://nobody.invalid/x.png"}},
        {"type": "container_upload", "file_id": "file_2"},
    ]
    sent = {
        "container": "container_1",
        "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
        "tools": [{"type": "bash_20250124", "name": "bash"}, SEARCHES, LOOK],
        "tool_choice": {"type": "tool", "name": "web_search", "disable_parallel_tool_use": True},
        "thinking": {"type": "disabled"},
        "inference_geo": "eu",
        "stop_sequences": ["END"],
    }

    async def work(door: Door) -> None:
        response = await door.ask({"role": "user", "content": given}, headers=headers, **sent)
        assert (response.status_code, dropped_in(response)) == (200, []), response.text
        model = {"model": "claude-haiku-4-5-20251001", "max_tokens": 4096}
        assert made.upstream == [{**sent, **model, "messages": [{"role": "user", "content": given}]}]

    run_door(made, work)


DEMANDS: dict[str, dict[str, Any]] = {
    "tool_choice.name": {"tools": [SEARCHES, LOOK], "tool_choice": {"type": "tool", "name": "web_search"}},
    "tool_choice": {"tools": [SEARCHES], "tool_choice": {"type": "any"}},
    "tools.0.type": {"tools": [{"type": "bash_20250124", "name": "bash"}]},
    "container": {"container": "container_1"},
    "messages.0.content.0.source": {
        "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]
    },
}


@pytest.mark.parametrize("param", DEMANDS)
def test_what_only_such_a_target_can_do_is_asked_of_it_alone(made: Fakes, param: str) -> None:
    async def work(door: Door) -> None:
        response = await door.ask(**{"model": "bedrock-native", **DEMANDS[param]})
        assert response.headers["x-breakwater-provider"] == NATIVE, response.text
        made.native.behave = status(500)
        down = await door.ask(**{"model": "bedrock-native", **DEMANDS[param]})
        assert down.status_code == 503
        first = down.json()["error"]["attempts"][0]["outcome"]
        assert first.startswith(f"skipped: unsupported {param}")
        nobody = await door.ask(**{"model": "others", **DEMANDS[param]})
        error = nobody.json()["error"]
        assert (nobody.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert f"'{param}'" in error["message"]
        assert made.bedrock.received == made.chat.received == []

    run_door(made, work)


def test_a_hosted_tool_is_offered_first_where_somebody_runs_it(made: Fakes) -> None:
    async def work(door: Door) -> None:
        offers: dict[str, Any] = {"model": "bedrock-native", "tools": [SEARCHES]}
        response = await door.ask(**offers)
        assert (response.headers["x-breakwater-provider"], dropped_in(response)) == (NATIVE, [])
        assert (await door.ask(model="bedrock-native")).headers["x-breakwater-provider"] == BEDROCK
        made.native.behave = status(500)
        response = await door.ask(**offers)
        assert (response.headers["x-breakwater-provider"], dropped_in(response)) == (BEDROCK, ["tools.0"])
        strict = await door.ask(**offers, headers={"x-breakwater-drop-unsupported": "none"})
        assert strict.status_code == 503

    run_door(made, work)


@pytest.mark.parametrize("other", [BEDROCK, CHAT])
@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 2048}, None])
def test_a_conversation_goes_to_another_provider_in_mid_step_and_comes_back(
    made: Fakes, other: str, thinking: Any
) -> None:
    """With tools and thoughts. Anthropic gets its own signatures, and those that hold there, and never an envelope."""

    async def work(door: Door) -> None:
        body = {"model": f"native-{'bedrock' if other == BEDROCK else 'chat'}", "tools": [LOOK], "thinking": thinking}
        first = await door.whole(**body)
        assert first["content"][0] == THINKING
        talk = [HI, said(first), results(first)]
        made.native.behave = status(500)
        second = await door.ask(*talk, **body)
        assert (second.status_code, second.headers["x-breakwater-provider"]) == (200, other), second.text
        assert [block["type"] for block in second.json()["content"]] == ["text"]
        called = await door.ask(*talk[:1], **body)  # a call of the other's, whose step Anthropic goes on with
        assert "tool_use" in [block["type"] for block in called.json()["content"]]
        made.native.behave = Behaviour()
        talk += [said(second.json()), HI, said(called.json()), results(called.json())]
        back = await door.ask(*talk, **body)
        assert back.status_code == 200, (back.text, made.upstream[-1]["messages"], made.native.objections)
        assert back.headers["x-breakwater-provider"] == NATIVE
        sent = made.upstream[-1]
        assert sent["messages"][1] == said(first)
        assert "bw1." not in json.dumps(sent)
        kinds = [block["type"] for block in sent["messages"][-2]["content"]]
        assert kinds == (["thinking", "tool_use"] if other == BEDROCK else ["tool_use"])
        assert ("thinking" in sent) is (thinking is not None and other == BEDROCK)

    run_door(made, work)


def test_bedrock_gets_the_thoughts_that_anthropic_has_signed(made: Fakes) -> None:
    async def work(door: Door) -> None:
        first = await door.whole(tools=[LOOK])
        made.native.behave = status(500)
        talk = [HI, said(first), results(first)]
        response = await door.ask(*talk, model="native-bedrock", tools=[LOOK], thinking={"type": "adaptive"})
        assert (response.headers["x-breakwater-provider"], dropped_in(response)) == (BEDROCK, [])
        thought = made.bedrock.received[-1].body["messages"][1]["content"][0]["reasoningContent"]["reasoningText"]
        assert thought == {"text": THINKING["thinking"], "signature": THINKING["signature"]}

    run_door(made, work)


def test_a_signature_that_holds_no_more_is_left_out_once_it_was_refused(made: Fakes) -> None:
    async def work(door: Door) -> None:
        other = {"role": "assistant", "content": [{**THINKING, "signature": "spoiled"}, {"type": "text", "text": "a"}]}
        response = await door.ask(HI, other, HI)
        assert (response.status_code, made.refused()) == (200, ["anthropic.thoughts"])
        assert made.upstream[-1]["messages"][1]["content"] == [{"type": "text", "text": "a"}]

    run_door(made, work)


@pytest.mark.parametrize("stream", [False, True])
def test_bedrock_is_asked_again_without_a_signature_that_does_not_hold_there(made: Fakes, stream: bool) -> None:
    made.bedrock.rules = [bedrock_claude.signatures]
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    content = [{**THINKING, "signature": "of another model"}, {"type": "text", "text": "a"}, THINKING, call]

    async def work(door: Door) -> None:
        talk = [HI, {"role": "assistant", "content": content}, {"role": "user", "content": [result(call)]}]
        asked = {"model": BEDROCK, "tools": [LOOK], "thinking": {"type": "adaptive"}}
        response = await door.ask(*talk, stream=stream, **asked)
        assert response.status_code == 200, response.text
        kinds = [[next(iter(block)) for block in one.body["messages"][1]["content"]] for one in made.bedrock.received]
        assert kinds == [["reasoningContent", "text", "reasoningContent", "toolUse"], ["text", "toolUse"]]
        thinks = ["additionalModelRequestFields" in one.body for one in made.bedrock.received]
        assert thinks == [True, False]  # that step can't go on thinking with a budget
        made.bedrock.refused.clear()

    run_door(made, work)


def test_marks_are_set_where_the_provider_is_to_and_the_client_sets_none(made: Fakes) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}

    async def work(door: Door) -> None:
        second = [{"role": "assistant", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
        asked: dict[str, Any] = {"system": "Rules.", "tools": [LOOK], "tool_choice": {"type": "none"}}
        for messages in ([HI], [HI, *second]):
            assert (await door.ask(*messages, **asked)).status_code == 200
        sent = made.upstream[-1]
        assert sent["system"] == [{"type": "text", "text": "Rules.", **mark}]
        assert sent["messages"] == [HI, second[0], {"role": "user", "content": [{"type": "text", "text": "b", **mark}]}]
        assert sent["tools"] == [LOOK]
        assert made.upstream[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi", **mark}]}]
        await door.ask(tools=[LOOK], tool_choice={"type": "none"})
        assert made.upstream[-1]["tools"] == [{**LOOK, **mark}]
        for own in ({"cache_control": MARK}, {"tools": [{**LOOK, **mark}], "tool_choice": {"type": "none"}}):
            await door.ask(**own)
            assert made.upstream[-1]["messages"] == [HI]

    run_door(made, work, cache="auto")


def test_turns_that_anthropic_would_refuse_of_another_provider_are_mended(made: Fakes) -> None:
    call = {"type": "tool_use", "id": "functions.look:0", "name": "look", "input": {}}
    unsigned = {"type": "thinking", "thinking": "Hm."}
    answer = {"role": "assistant", "content": [unsigned, {"type": "text", "text": " \n"}, call]}
    odd = {"role": "assistant", "content": [{"type": "extra_content", "signature": "s"}, {"type": "text", "text": "a"}]}
    only = {"role": "assistant", "content": [{**unsigned, "signature": "bw1.damaged"}]}

    async def work(door: Door) -> None:
        last = {"role": "user", "content": [result(call)]}
        response = await door.ask(HI, only, HI, answer, last, odd, HI, extra_content={"betas": "x"})
        assert response.status_code == 200, response.text
        places = ["messages.1.content.0", "messages.3.content.0", "messages.5.content.0"]
        assert dropped_in(response) == [*places, "extra_content"]
        sent = made.upstream[-1]
        roles = [message["role"] for message in sent["messages"]]
        assert roles == ["user", "user", "assistant", "user", "assistant", "user"]
        (use,) = sent["messages"][2]["content"]
        assert sent["messages"][3]["content"][0]["tool_use_id"] == use["id"] != call["id"]
        assert [tool["name"] for tool in sent["tools"]] == ["look"]

    run_door(made, work)


THINKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "claude-haiku-4-5",
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"thinking": {"type": "enabled", "budget_tokens": 16_384}},
    ),
    (
        "claude-opus-4-8",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
    ),
    ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, {"output_config": {"effort": "low"}}),
    (
        "claude-sonnet-4-6",
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    ),
]


@pytest.mark.parametrize(("model", "asked", "expected"), THINKS)
def test_a_wish_to_think_is_said_in_the_words_of_the_models_version(
    made: Fakes, model: str, asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    async def work(door: Door) -> None:
        response = await door.ask(**{**asked, "max_tokens": 60_000})
        assert response.status_code == 200, response.text
        (sent,) = made.upstream
        assert {name: sent[name] for name in ("thinking", "output_config") if name in sent} == expected

    run_door(made, work, model=model)


def test_what_a_model_does_not_take_is_left_out_and_named_in_the_clients_words(made: Fakes) -> None:
    async def work(door: Door) -> None:
        thinking = {"type": "enabled", "budget_tokens": 31_999}
        response = await door.ask(temperature=0.3, top_k=3, max_tokens=100_000, stop_sequences=[" "])
        assert dropped_in(response) == ["stop_sequences", "max_tokens"]
        assert (made.upstream[-1]["max_tokens"], made.upstream[-1]["temperature"]) == (64_000, 0.3)
        response = await door.ask(temperature=0.3, thinking={**thinking, "budget_tokens": 90_000}, max_tokens=100_000)
        assert dropped_in(response) == ["temperature", "max_tokens"]
        assert made.upstream[-1]["thinking"]["budget_tokens"] == 63_999

    run_door(made, work)

"""A client of Responses, and a server that is asked by them: the request and the answer pass as they are."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.doors.responses import call, function, result
from tests.fakes.hosted_items import CITED, HOSTED, OF_FILE, SEARCH
from tests.fakes.server import Behaviour, status
from tests.fakes.vendors.openai_responses import RULES, unverified
from tests.providers.native_world import BEDROCK, NATIVE, SEARCHES, Door, Fakes, echoed, fakes, run_door


@pytest.fixture
def made() -> Iterator[Fakes]:
    with fakes() as world:
        yield world
        world.unobjected()


def dropped_in(response: Any) -> list[str]:
    names: str = response.headers.get("x-breakwater-dropped", "")
    return names.split(", ") if names else []


def said(value: Any) -> Any:
    """A value without the nulls that SDKs write for what is not there."""
    if isinstance(value, dict):
        return {name: said(inner) for name, inner in value.items() if inner is not None}
    return [said(inner) for inner in value] if isinstance(value, list) else value


def test_a_request_goes_upstream_as_its_client_sent_it(made: Fakes) -> None:
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_image", "file_id": "file-1", "detail": "auto"}]},
        {"role": "user", "content": [{"type": "input_file", "file_url": "https://x.example/a.pdf"}]},
    ]
    sent = {
        "tools": [{"type": "web_search", "search_context_size": "low"}, {"type": "mcp", "server_label": "maps"}],
        "tool_choice": {"type": "web_search"},
        "include": ["web_search_call.action.sources"],
        "instructions": "Search first.",
        "truncation": "auto",
        "metadata": {"a": "b"},
        "max_tool_calls": 3,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low", "format": {"type": "text"}},
    }

    async def work(door: Door) -> None:
        response = await door.ask(given, **sent)
        assert response.status_code == 200
        assert dropped_in(response) == []
        (body,) = made.upstream
        assert body.pop("include") == ["web_search_call.action.sources", "reasoning.encrypted_content"]
        expected = {name: value for name, value in sent.items() if name != "include"}
        expected["text"] = {"verbosity": "low"}  # a text is what it would be anyway
        assert body == {"input": given, **expected, "model": "gpt-5.5", "store": False, "stream": False}

    run_door(made, work)


def test_hosted_items_and_citations_come_whole(made: Fakes) -> None:
    made.wire.hosted, made.wire.annotations = list(HOSTED.values()), [CITED, OF_FILE]

    async def work(door: Door) -> None:
        answer = await door.whole(tools=[SEARCHES])
        reasoning, *items, message = answer["output"]
        assert reasoning["encrypted_content"].startswith("gAAA")
        assert [{**item, "id": None} for item in items] == [{**item, "id": None} for item in HOSTED.values()]
        assert message["content"][0]["annotations"] == [CITED, OF_FILE]
        assert (answer["model"], answer["store"]) == (NATIVE, False)
        assert answer["id"].startswith("resp_")
        assert answer["id"] != "resp_1"
        assert answer["usage"]["input_tokens"] == 7

    run_door(made, work)


def test_hosted_items_are_streamed_with_their_own_events(made: Fakes) -> None:
    made.wire.hosted, made.wire.annotations = list(HOSTED.values()), [CITED]

    async def work(door: Door) -> None:
        streamed = await door.streamed(tools=[SEARCHES])
        for kind in (
            "web_search_call.searching",
            "code_interpreter_call_code.delta",
            "image_generation_call.partial_image",
            "mcp_call_arguments.done",
            "custom_tool_call_input.delta",
            "output_text.annotation.added",
        ):
            assert kind in streamed.kinds
        assert streamed.kinds[-1] == "completed"
        assert streamed.done == streamed.response["output"]
        assert streamed.text("output_text") == "Paris is the capital."
        ids = {event["response"]["id"] for event in streamed.events if "response" in event}
        assert len(ids) == 1

    run_door(made, work)


def test_a_conversation_goes_on_with_all_that_the_answer_held(made: Fakes) -> None:
    made.wire.hosted, made.wire.annotations = list(HOSTED.values()), [CITED]

    async def work(door: Door) -> None:
        asked = {"role": "user", "content": "Search"}
        answer = await door.whole([asked], tools=[SEARCHES])
        more = [*echoed(answer), result("call_ctc"), {"role": "user", "content": "Go on"}]
        more[-2]["type"] = "custom_tool_call_output"
        response = await door.ask([asked, *more], tools=[SEARCHES])
        assert response.status_code == 200
        assert dropped_in(response) == []
        sent = made.upstream[-1]["input"][1:-2]
        assert said(sent) == said(answer["output"])

    run_door(made, work)


def test_another_provider_goes_on_without_what_only_the_first_can_read_and_back(made: Fakes) -> None:
    made.wire.hosted = [SEARCH]

    async def work(door: Door) -> None:
        talk: list[Any] = [{"role": "user", "content": "Search"}]
        talk += echoed(await door.whole(talk, model="native-bedrock", tools=[SEARCHES]))
        talk.append({"role": "user", "content": "And?"})
        made.native.behave = status(500)
        response = await door.ask(talk, model="native-bedrock", tools=[SEARCHES])
        assert response.headers["x-breakwater-provider"] == BEDROCK
        assert dropped_in(response) == ["tools.0", "input.1", "input.2"]
        talk += [*response.json()["output"], {"role": "user", "content": "Back"}]
        made.native.behave = Behaviour()
        response = await door.ask(talk, model="native-bedrock", tools=[SEARCHES])
        assert response.headers["x-breakwater-provider"] == NATIVE
        assert dropped_in(response) == []
        kinds = [item.get("type", item.get("role")) for item in made.upstream[-1]["input"]]
        assert kinds == ["user", "reasoning", "web_search_call", "message", "user", "message", "user"]

    run_door(made, work)


def test_a_call_of_a_custom_tool_goes_to_another_provider_and_back_to_a_native_one(made: Fakes) -> None:
    made.wire.hosted = [HOSTED["custom_tool_call"]]
    tools = [{"type": "custom", "name": "apply_patch"}, function("f", strict=False)]

    async def work(door: Door) -> None:
        talk: list[Any] = [{"role": "user", "content": "Patch"}]
        talk += (await door.whole(talk, tools=tools))["output"]
        done = {"type": "custom_tool_call_output", "output": "done"}
        talk += [{**done, "call_id": item["call_id"]} for item in talk if item.get("type") == "custom_tool_call"]
        talk += [result(item["call_id"]) for item in talk if item.get("type") == "function_call"]
        other = await door.whole(talk, model=BEDROCK, tools=tools)
        talk += other["output"]
        talk += [
            {**(done if item["type"].startswith("custom") else result("")), "call_id": item["call_id"]}
            for item in other["output"]
            if "call_id" in item
        ]
        await door.whole(talk, tools=tools)

    run_door(made, work)


DEMANDS = {
    "tool_choice": {"tools": [SEARCHES], "tool_choice": {"type": "web_search"}},
    "tool_choice.tools": {
        "tools": [SEARCHES],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [SEARCHES]},
    },
    "input.0.content.0.file_id": {
        "given": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1", "detail": "auto"}]}]
    },
    "input.0.content.0.file_url": {
        "given": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x.example/a.pdf"}]}]
    },
    "input.1": {"given": [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]},
}


@pytest.mark.parametrize("param", DEMANDS)
def test_what_only_such_a_target_can_do_is_asked_of_it_alone(made: Fakes, param: str) -> None:
    async def work(door: Door) -> None:
        response = await door.ask(model="bedrock-native", **DEMANDS[param])
        assert response.headers["x-breakwater-provider"] == NATIVE, response.text
        made.native.behave = status(500)
        down = await door.ask(model="bedrock-native", **DEMANDS[param])
        assert down.status_code == 503
        assert f"skipped: unsupported {param}" in [one["outcome"] for one in down.json()["error"]["attempts"]]
        nobody = await door.ask(model="others", **DEMANDS[param])
        error = nobody.json()["error"]
        assert (nobody.status_code, error["param"], error["code"]) == (400, param, "unsupported_parameter")
        assert f"'{param}'" in error["message"] or error["message"].startswith("'tool_choice' demands")
        assert made.bedrock.received == made.chat.received == []

    run_door(made, work)


def test_a_hosted_tool_is_offered_first_where_somebody_runs_it(made: Fakes) -> None:
    async def work(door: Door) -> None:
        offers = {"model": "bedrock-native", "tools": [SEARCHES]}
        response = await door.ask(**offers)
        assert (response.headers["x-breakwater-provider"], dropped_in(response)) == (NATIVE, [])
        assert (await door.ask(model="bedrock-native")).headers["x-breakwater-provider"] == BEDROCK
        made.native.behave = status(500)
        response = await door.ask(**offers)
        assert (response.headers["x-breakwater-provider"], dropped_in(response)) == (BEDROCK, ["tools.0"])

    run_door(made, work)


def test_who_lets_nothing_be_left_out_is_answered_only_by_who_gets_all_of_it(made: Fakes) -> None:
    headers = {"x-breakwater-drop-unsupported": "none"}

    async def work(door: Door) -> None:
        offers = {"model": "native-bedrock", "tools": [SEARCHES], "headers": headers}
        assert (await door.ask(**offers)).headers["x-breakwater-provider"] == NATIVE
        made.native.behave = status(500)
        down = await door.ask(**offers)
        assert down.status_code == 503
        assert [one["outcome"] for one in down.json()["error"]["attempts"]] == [
            "skipped: unsupported tools.0",
            "server_error",
        ]
        nobody = await door.ask(model="others", tools=[SEARCHES], headers=headers)
        assert (nobody.status_code, nobody.json()["error"]["param"]) == (400, "tools.0")
        made.native.behave = Behaviour()
        stored = await door.ask(store=True, headers=headers)
        assert (stored.status_code, stored.json()["error"]["param"]) == (400, "store")

    run_door(made, work)


def test_what_a_model_does_not_take_is_left_out_and_named_in_the_clients_words(made: Fakes) -> None:
    async def work(door: Door) -> None:
        response = await door.ask(
            temperature=0.3, max_output_tokens=3, reasoning={"effort": "low"}, store=True, user="u"
        )
        assert dropped_in(response) == ["store", "temperature"]
        (body,) = made.upstream
        assert "temperature" not in body
        assert (body["max_output_tokens"], body["user"]) == (16, "u")

    run_door(made, work)


def test_an_effort_is_the_nearest_that_the_model_has(made: Fakes) -> None:
    async def work(door: Door) -> None:
        await door.whole(reasoning={"effort": "xhigh", "summary": "auto"})
        assert made.upstream[-1]["reasoning"] == {"effort": "high", "summary": "auto"}

    run_door(made, work, model="gpt-5")


def test_a_field_that_a_server_refuses_is_left_out_named_and_remembered(made: Fakes) -> None:
    made.native.rules = [unverified, *RULES]
    body = {"client_metadata": {"a": "b"}, "reasoning": {"effort": "low", "summary": "auto"}}

    async def work(door: Door) -> None:
        for calls in (3, 1):
            made.native.received.clear()
            response = await door.ask(**body)
            assert response.status_code == 200
            assert sorted(dropped_in(response)) == ["client_metadata", "reasoning.summary"]
            assert len(made.native.received) == calls
            assert len(made.refused()) == calls - 1
        assert made.upstream[-1]["reasoning"] == {"effort": "low"}
        strict = await door.ask(**body, headers={"x-breakwater-drop-unsupported": "none"})
        assert strict.status_code == 400

    run_door(made, work)


def test_a_model_without_reasoning_is_asked_again_without_its_encryption(made: Fakes) -> None:
    async def work(door: Door) -> None:
        await door.whole(include=["reasoning.encrypted_content"])
        assert ["include" in body for body in made.upstream] == [True, False]
        assert made.refused() == ["openai_responses.reasoning_of_others"]
        await door.whole(include=["reasoning.encrypted_content"])
        assert "include" not in made.upstream[-1]

    run_door(made, work, model="gpt-4o")


def test_reasoning_that_cannot_go_back_takes_the_ids_along_that_ask_for_it(made: Fakes) -> None:
    async def work(door: Door) -> None:
        asked = {"role": "user", "content": "Hi"}
        tools = [function("f", strict=False)]
        output = (await door.whole([asked], tools=tools))["output"]
        results = [result(item["call_id"]) for item in output if item["type"] == "function_call"]
        for name, expected in (("encrypted_content", ["input.1"]), ("status", [])):
            changed = [{**item, name: None} if item["type"] == "reasoning" else item for item in output]
            response = await door.ask([asked, *changed, *results], tools=tools)
            assert response.status_code == 200
            assert dropped_in(response) == expected

    run_door(made, work)


def test_reasoning_of_another_account_is_left_out_at_the_second_try(made: Fakes) -> None:
    async def work(door: Door) -> None:
        asked = {"role": "user", "content": "Hi"}
        tools = [function("f", strict=False)]
        output = (await door.whole([asked], tools=tools))["output"]
        others = [
            {**item, "encrypted_content": "of another"} if item["type"] == "reasoning" else item for item in output
        ]
        results = [result(item["call_id"]) for item in output if item["type"] == "function_call"]
        await door.whole([asked, *others, *results], tools=tools)
        assert made.refused() == ["openai_responses.foreign_reasoning"]

    run_door(made, work)


def test_reasoning_in_an_envelope_of_ours_goes_back_as_its_server_made_it(made: Fakes) -> None:
    """A client of chat completions began the conversation, so the reasoning was sealed."""

    async def work(door: Door) -> None:
        from deployments.doors.envelope import Envelope, seal
        from deployments.providers.openai.responses_api.kept_items import kept_item
        from tests.fakes.responses_wire import REASONING

        sealed = seal(Envelope(kept_item(0, 0, REASONING, said=False)))
        foreign = seal(Envelope({"bedrock": {"reasoning": []}}))
        smuggled = seal(Envelope(kept_item(0, 0, {"type": "item_reference", "id": "msg_of_others"}, said=False)))
        reasoning = [
            {"type": "reasoning", "id": "rs_x", "summary": [], "encrypted_content": one}
            for one in (foreign, sealed, smuggled)
        ]
        talk = [{"role": "user", "content": "Hi"}, *reasoning, call("a"), result("a")]
        assert dropped_in(await door.ask(talk)) == []
        kinds = [item.get("type") for item in made.upstream[-1]["input"]]
        assert kinds == [None, "reasoning", "function_call", "function_call_output"]
        assert made.upstream[-1]["input"][1] == REASONING

    run_door(made, work)

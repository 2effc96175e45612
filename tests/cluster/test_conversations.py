"""What a client may send beyond text, on every tier, and what becomes of it when the tier changes."""

import base64
import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import CLOUDS, PICTURES, Cluster, eventually
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer, status
from tests.providers.test_images import PNG

PROVIDERS = (*CLOUDS, "local")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}


def said(llm: Cluster, model: str, messages: list[Any], *, stream: bool, **body: Any) -> tuple[dict[str, Any], str]:
    """The assistant's message, put together as a client does it, and who said it."""
    response = llm.post(model=model, messages=messages, stream=stream, **body)
    assert response.status_code == 200, response.text
    by = response.headers["x-breakwater-provider"]
    if not stream:
        return response.json()["choices"][0]["message"], by
    assert response.text.endswith("data: [DONE]\n\n")
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: dict[int, dict[str, Any]] = {}
    for event in response.text.split("\n\n"):
        for choice in json.loads(event[6:])["choices"] if event.startswith("data: {") else ():
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            for part in delta.get("tool_calls") or ():
                call = calls.setdefault(part["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
                call |= {k: v for k, v in part.items() if k in ("id", "extra_content")}
                call["function"]["name"] += part["function"].get("name") or ""
                call["function"]["arguments"] += part["function"].get("arguments") or ""
    return (message | {"tool_calls": [calls[at] for at in sorted(calls)]} if calls else message), by


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}
    return {"role": "tool", "tool_call_id": call["id"], "content": "22 degrees and sunny"}


def out(llm: Cluster, provider: str) -> None:
    if provider == "local":
        llm.command("isolate", "local")
        eventually(lambda: llm.get("/v1/providers/local")["isolated"])
    else:
        llm.fakes[provider].behave = status(500)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(PROVIDERS, 2)))
def test_a_tool_conversation_goes_on_when_its_provider_dies_between_the_turns(
    llm: Cluster, first: str, second: str, stream: bool
) -> None:
    model, tools = f"{first}-{second}", {"tools": [WEATHER], "tool_choice": "required"}
    messages: list[Any] = [QUESTION]
    call, by = said(llm, model, messages, stream=stream, **tools)
    assert by == first
    messages += [call, result_of(call)]
    out(llm, first)
    answer, by = said(llm, model, messages, stream=stream, tools=[WEATHER])
    assert by == second
    assert answer["content"]
    messages += [answer, {"role": "user", "content": "And what is the weather in London?"}]
    again, by = said(llm, model, messages, stream=stream, **tools)
    assert by == second
    assert result_of(again)
    for fake in llm.fakes.values():
        assert fake.objections == [], "a real API would have refused it"


def test_a_hint_that_a_tier_has_no_use_for_is_named(llm: Cluster) -> None:
    response = llm.post(seed=7, user="u")
    assert response.headers["x-breakwater-provider"] == "aws_bedrock"
    assert response.headers["x-breakwater-dropped"] == "seed, user"
    strict = llm.post(headers={"x-breakwater-drop-unsupported": "none"}, seed=7, user="u")
    assert strict.headers["x-breakwater-provider"] == "openai"
    assert llm.fakes["openai"].received[0].body["seed"] == 7


def test_whoever_can_not_do_it_is_passed_over(llm: Cluster) -> None:
    response = llm.post(n=2, parameter_of_tomorrow=1)
    assert response.headers["x-breakwater-provider"] == "openai"
    assert llm.fakes["openai"].received[0].body["parameter_of_tomorrow"] == 1
    assert llm.fakes["aws_bedrock"].received == []
    llm.fakes["openai"].behave = status(500)
    failed = llm.post(n=2, parameter_of_tomorrow=1)
    assert failed.status_code == 503
    outcomes = {a["provider"]: a["outcome"] for a in failed.json()["error"]["attempts"]}
    assert outcomes["aws_bedrock"] == "skipped: unsupported n, parameter_of_tomorrow"
    assert outcomes["openai"] == "server_error"


@pytest.mark.parametrize("provider", CLOUDS)
def test_an_image_by_url_comes_as_bytes_to_whom_takes_no_urls(llm: Cluster, provider: str) -> None:
    host = FakeServer(OpenAIWire(), port=PICTURES)
    host.behave = Behaviour("raw", raw=PNG, content_type="image/png")
    try:
        url = f"{host.url}/a.png"
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        response = llm.post(model=f"first-{provider}", messages=[{"role": "user", "content": parts}])
        assert response.headers["x-breakwater-provider"] == provider
    finally:
        host.stop()
    sent = json.dumps(llm.fakes[provider].received[0].body)
    assert (url in sent) is (provider == "openai")
    # google-genai writes bytes in the alphabet of URLs.
    inside = any(encoded(PNG).decode() in sent for encoded in (base64.b64encode, base64.urlsafe_b64encode))
    assert inside is (provider != "openai")


def test_an_image_that_can_not_be_had_is_a_400_that_says_why(llm: Cluster) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}]
    response = llm.post(model="aws_bedrock-google_genai", messages=[{"role": "user", "content": parts}])
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (
        400,
        "invalid_image_url",
        "messages.0.content.0.image_url",
    )
    assert "its host is not public" in error["message"]


@pytest.mark.parametrize("dead", [(), CLOUDS[:1], CLOUDS[:2]], ids=len)
def test_embeddings_fail_over_and_say_whose_they_are(llm: Cluster, dead: tuple[str, ...]) -> None:
    for name in dead:
        llm.fakes[name].behave = status(500)
    body = {"model": "vectors", "input": ["one", "two"]}
    response = httpx2.post(f"{llm.url}/v1/embeddings", json=body, timeout=30)
    assert response.status_code == 200, response.text
    assert response.headers["x-breakwater-provider"] == CLOUDS[len(dead)]
    assert [len(d["embedding"]) for d in response.json()["data"]] == [512, 512]


def test_the_openai_client_reads_all_of_it(llm: Cluster) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{llm.url}/v1", api_key="none", max_retries=0)
    llm.fakes["aws_bedrock"].behave = status(500)
    made = client.embeddings.create(model="vectors", input="one")
    assert len(made.data[0].embedding) == 512
    with client.chat.completions.stream(model="local-openai", messages=[{"role": "user", "content": "Hi"}]) as events:
        assert events.get_final_completion().choices[0].message.content
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "model_not_found"
    client.close()


def test_a_json_schema_is_kept_by_every_tier(llm: Cluster) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "place", "schema": schema | {"additionalProperties": False}},
    }
    reply = llm.post(model="first-local", response_format=wanted, max_tokens=60)
    assert reply.headers["x-breakwater-provider"] == "local"
    assert set(json.loads(reply.json()["choices"][0]["message"]["content"])) == {"city"}
    for provider in CLOUDS:
        assert llm.post(model=f"first-{provider}", response_format=wanted).headers["x-breakwater-provider"] == provider
        assert "additionalProperties" in json.dumps(llm.fakes[provider].received[-1].body)


def test_both_doors_say_the_same(llm: Cluster) -> None:
    async def main() -> None:
        from ray import serve

        handle = serve.get_app_handle("llm")
        request = {"model": "default", "messages": [QUESTION], "seed": 1, "tools": [WEATHER]}
        answer = await handle.chat.remote(request)
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert answer["breakwater"]["dropped"] == ["seed"]
        strict = await handle.chat.remote(request, None, "none")
        assert strict["breakwater"]["provider"] == "openai"
        made = await handle.embed.remote({"model": "vectors", "input": "Hi"})
        assert len(made["data"][0]["embedding"]) == 512
        refused = await handle.embed.remote({"model": "vectors", "input": "Hi", "dimensions": 3})
        assert (refused["status"], refused["error"]["param"]) == (400, "dimensions")

    llm.run(main())

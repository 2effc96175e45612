"""The rules of the vendors' fakes: each has its source, refuses what its source says, and lets a plain request pass."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError
from google.genai.errors import APIError
from openai import OpenAI

from actors.breaker.outcomes import Outcome, Verdict
from deployments.providers.bedrock.classify import classify as bedrock_classify
from deployments.providers.google.classify import classify as google_classify
from deployments.providers.openai.errors.classify import classify as openai_classify
from tests.fakes.vendors import (
    Refusal,
    Rule,
    azure,
    bedrock,
    bedrock_claude,
    compatible,
    deepseek,
    first_refusal,
    gemini,
    groq,
    mistral,
    model_of,
    openai,
    openai_reasoning,
    openai_responses,
    xai,
)

SOURCE = re.compile(r"[\w.-]+/[\w.-]+#\d+|page \"|guide \"|API reference|page, \"|mistralai \d|CompletionCreate")
ALL: list[Rule] = [
    *(*openai.RULES, *openai_reasoning.RULES, *azure.RULES, *bedrock.RULES, *bedrock_claude.RULES, *gemini.RULES),
    *(*openai_responses.RULES, openai_responses.unverified),
    *(*groq.RULES, *mistral.RULES, *deepseek.RULES, *xai.RULES),
    *(*compatible.OPENROUTER_WITHOUT_TOOLS, *compatible.VLLM, *compatible.STRICT),
    *(*compatible.OPENROUTER, *compatible.LLAMA, *compatible.FIREWALL),
]


@dataclass(frozen=True)
class Request:
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


HI = [{"role": "user", "content": "Hi"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
OPEN = {"type": "object", "properties": {"n": {"type": "integer"}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HAIKU, OPUS, NEW_OPUS, OPUS_5 = (
    f"global.anthropic.claude-{name}" for name in ("haiku-4-5-20251001-v1:0", "opus-4-6-v1", "opus-4-8", "opus-5")
)


def chat(model: str = "gpt-4.1", *, query: str = "", **body: Any) -> Request:
    return Request(f"/v1/chat/completions{query}", {"model": model, "messages": HI, **body})


def responses(*items: Any, model: str = "gpt-5.5", **body: Any) -> Request:
    return Request("/v1/responses", {"model": model, "input": [*HI, *items], **body})


def made(kind: str, **item: Any) -> dict[str, Any]:
    """An item of an earlier answer."""
    fields = {"reasoning": {"id": "rs_1", "summary": [], "encrypted_content": "gAAA1"}}
    fields["function_call"] = {"call_id": "a", "name": "f", "arguments": "{}"}
    return {"type": kind, **fields.get(kind, {}), **item}


def converse(model: str = HAIKU, **body: Any) -> Request:
    messages = [{"role": "user", "content": [{"text": "Hi"}]}]
    return Request(f"/model/{model.replace(':', '%3A')}/converse", {"messages": messages, **body})


def generate(
    model: str = "gemini-2.5-pro", *, functions: list[Any] | None = None, file: str | None = None, **config: Any
) -> Request:
    parts: list[Any] = [{"fileData": {"fileUri": file}} if file else {"text": "Hi"}]
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
    if functions:
        body["tools"] = [{"functionDeclarations": functions}]
    return Request(f"/v1beta/models/{model}:generateContent", body)


def result(response: Any) -> Request:
    parts = [{"functionResponse": {"id": "1", "name": "f", "response": response}}]
    return Request("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": [{"role": "user", "parts": parts}]})


def with_documents(*names: str, form: str = "txt", text: Any = ({"text": "Hi"},)) -> Request:
    source = {"bytes": base64.b64encode(b"words").decode()}
    documents = [{"document": {"format": form, "name": name, "source": source}} for name in names]
    return converse(messages=[{"role": "user", "content": [*documents, *text]}])


def media(kind: str) -> Request:
    parts = [{"inlineData": {"mimeType": kind, "data": ""}}]
    return Request("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": [{"role": "user", "parts": parts}]})


def gone_on(model: str) -> Request:
    turns = [{"role": role, "parts": [{"text": "Hi"}]} for role in ("user", "model")]
    return Request(f"/v1beta/models/{model}:generateContent", {"contents": turns})


def answer_schema(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, **more}}


def said(role: str, **message: Any) -> list[Any]:
    return [*HI, {"role": role, "content": "x", **message}]


def specs(**spec: Any) -> dict[str, Any]:
    return {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}, **spec}}]}


def thinking(
    model: str, config: Any = None, messages: Any = None, effort: str | None = None, **thinking: Any
) -> Request:
    body: dict[str, Any] = {"additionalModelRequestFields": {"thinking": thinking}}
    body |= {"outputConfig": {"effort": effort}} if effort else {}
    body |= {"messages": messages, "toolConfig": specs()} if messages else {}
    return converse(model, inferenceConfig=config or {}, **body)


STEP = [
    {"role": "user", "content": [{"text": "Hi"}]},
    {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}]},
    {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "1"}]}}]},
]
LONG = [{"role": "user", "content": [{"text": "word " * 120_000}]}]
OLD = "?api-version=2024-06-01"
JSON_ANSWER = {"textFormat": {"structure": {"jsonSchema": {"schema": json.dumps(OPEN)}}}}
REFUSED: list[tuple[Rule, Request]] = [
    (openai.unknown_argument, chat(top_k=4)),
    (openai.stream_options_alone, chat(stream_options={"include_usage": True})),
    (openai.tool_fields_alone, chat(parallel_tool_calls=False)),
    (openai.tool_fields_alone, chat(tools=[])),
    (openai.json_unsaid, chat(response_format={"type": "json_object"})),
    (openai.logprobs_alone, chat(top_logprobs=2)),
    (openai.loose_schema, chat(response_format=answer_schema(OPEN, strict=True))),
    (
        openai.loose_schema,
        chat(tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": OPEN}}]),
    ),
    (openai.too_many_tokens, chat(max_tokens=100_000)),
    (openai.too_many_stops, chat(stop=list("abcde"))),
    (openai.effort_without_reasoning, chat(reasoning_effort="low")),
    (openai.verbosity_of_others, chat(verbosity="low")),
    (openai.wrong_type, chat(messages=said("assistant", name=None))),
    (openai.wrong_type, chat(messages=said("assistant", tool_calls=[{"function": {"name": "f", "arguments": {}}}]))),
    (openai.minute_limit, chat(messages=[{"role": "user", "content": "word " * 24_100}])),
    (openai_reasoning.max_tokens, chat("gpt-5.4-mini", max_tokens=5)),
    (openai_reasoning.sampling, chat("gpt-5.4-mini", temperature=0.2)),
    (openai_reasoning.sampling, chat("o3", top_p=0.2)),
    (openai_reasoning.penalties, chat("gpt-5-mini", presence_penalty=0.2)),
    (openai_reasoning.stop, chat("gpt-5.1", stop=["x"])),
    (openai_reasoning.logprobs, chat("gpt-5.1", logprobs=True)),
    (openai_reasoning.unknown_effort, chat("gpt-5.4-mini", reasoning_effort="minimal")),
    (openai_reasoning.unknown_effort, chat("gpt-5-mini", reasoning_effort="none")),
    (openai_reasoning.tools_with_effort, chat("gpt-5.4-mini", reasoning_effort="low", tools=[TOOL])),
    (openai_reasoning.tools_with_effort, chat("gpt-5.6-terra", tools=[TOOL])),
    (openai_responses.unknown_field, responses(client_metadata={})),
    (openai_responses.unknown_in_item, responses(made("of_next_year"))),
    (openai_responses.unknown_in_item, responses(made("function_call", extra_content={}))),
    (openai_responses.unknown_in_item, responses(made("custom_tool_call", status="completed"))),
    (openai_responses.state_of_reasoning, responses(made("reasoning", status=None))),
    (openai_responses.incomplete_reasoning, responses({"type": "reasoning", "id": "rs_1"})),
    (openai_responses.incomplete_reasoning, responses(made("reasoning", encrypted_content=None))),
    (openai_responses.incomplete_reasoning, responses({"type": "item_reference", "id": "rs_1"})),
    (openai_responses.foreign_reasoning, responses(made("reasoning", encrypted_content="bw1.x"))),
    (openai_responses.loose_reasoning, responses(made("reasoning"))),
    (openai_responses.loose_reasoning, responses(made("reasoning"), *HI)),
    (openai_responses.lost_reasoning, responses(made("function_call", id="fc_1_of_rs_1"))),
    (openai_responses.foreign_id, responses(made("function_call", id="item_1"))),
    (openai_responses.foreign_id, responses(made("function_call", id=""))),
    (openai_responses.twice, responses(*[made("function_call", id="fc_1")] * 2)),
    (openai_responses.order_of_calls, responses(made("function_call"))),
    (openai_responses.order_of_calls, responses(made("function_call_output", call_id="a", output=""))),
    (openai_responses.long_call_id, responses(made("function_call", call_id="a" * 65))),
    (
        openai_responses.part_of_another,
        responses({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}),
    ),
    (openai_responses.lacking_tool, responses(tools=[TOOL])),
    (openai_responses.lacking_tool, responses(tools=[{"type": "function", "name": "f", "parameters": {}}])),
    (
        openai_responses.loose_schema,
        responses(text={"format": {"strict": True, "schema": OPEN}}),
    ),
    (openai_responses.few_tokens, responses(max_output_tokens=15)),
    (openai_responses.stream_options_alone, responses(stream_options={"include_obfuscation": False})),
    (openai_responses.unknown_include, responses(include=["everything"])),
    (openai_responses.reasoning_of_others, responses(model="gpt-4o", include=["reasoning.encrypted_content"])),
    (openai_responses.reasoning_of_others, responses(model="gpt-4o", reasoning={"effort": "low"})),
    (openai_responses.sampling, responses(temperature=0.3)),
    (openai_responses.unknown_effort, responses(reasoning={"effort": "minimal"})),
    (openai_responses.json_unsaid, responses(text={"format": {"type": "json_object"}})),
    (openai_responses.unverified, responses(reasoning={"summary": "auto"})),
    (azure.max_completion_tokens, chat(query=OLD, max_completion_tokens=5)),
    (azure.parallel_tool_calls, chat(query=OLD, parallel_tool_calls=False, tools=[TOOL])),
    (azure.stream_options, chat(query=OLD, stream=True, stream_options={"include_usage": True})),
    (bedrock.base_id, converse("anthropic.claude-haiku-4-5-20251001-v1:0")),
    (bedrock.tool_name, converse(toolConfig=specs(name="a.b"))),
    (bedrock.tool_schema, converse(toolConfig=specs(inputSchema={"json": {"anyOf": []}}))),
    (
        bedrock.image_type,
        converse(
            messages=[{"role": "user", "content": [{"image": {"format": "jpeg", "source": {"bytes": PNG}}}]}],
        ),
    ),
    (bedrock.document_name, with_documents("a.pdf")),
    (bedrock.document_name, with_documents("two  spaces")),
    (bedrock.document_name, with_documents("a", "A")),
    (bedrock.document_limits, with_documents(*"abcdef")),
    (bedrock.document_limits, with_documents("a", form="pptx")),
    (bedrock.document_alone, with_documents("a", text=[])),
    (bedrock_claude.temperature_beside_top_p, converse(inferenceConfig={"temperature": 0.5, "topP": 0.9})),
    (bedrock_claude.sampling, converse(NEW_OPUS, inferenceConfig={"temperature": 0.5})),
    (bedrock_claude.temperature_range, converse(inferenceConfig={"temperature": 1.5})),
    (bedrock_claude.too_many_tokens, converse(inferenceConfig={"maxTokens": 64_001})),
    (bedrock_claude.blank_stop, converse(inferenceConfig={"stopSequences": ["\n"]})),
    (bedrock_claude.effort, converse(outputConfig={"effort": "low"})),
    (bedrock_claude.effort_unthought, converse(NEW_OPUS, outputConfig={"effort": "max"})),
    (bedrock_claude.thinking_type, thinking(NEW_OPUS, type="enabled", budget_tokens=1024)),
    (bedrock_claude.thinking_type, thinking(HAIKU, type="adaptive")),
    (bedrock_claude.thinking_type, thinking("anthropic.claude-opus-5-5", type="disabled")),
    (bedrock_claude.thinking_type, thinking(OPUS_5, type="between_tools")),
    (
        bedrock_claude.forced_tool,
        converse("anthropic.claude-sonnet-5-5", toolConfig={**specs(), "toolChoice": {"any": {}}}),
    ),
    (bedrock_claude.thinking_budget, thinking(HAIKU, type="enabled", budget_tokens=1000)),
    (bedrock_claude.thinking_budget, thinking(HAIKU, {"maxTokens": 2000}, type="enabled", budget_tokens=2000)),
    (bedrock_claude.thinking_beside, thinking(OPUS, {"temperature": 0.5}, type="adaptive")),
    (bedrock_claude.thinking_beside, converse(OPUS_5, toolConfig={**specs(), "toolChoice": {"any": {}}})),
    (bedrock_claude.thoughts_of_a_step, thinking(HAIKU, messages=STEP, type="enabled", budget_tokens=2000)),
    (
        bedrock_claude.thoughts_of_a_step,
        thinking(HAIKU, messages=STEP[:2], type="enabled", budget_tokens=2000),
    ),
    (bedrock_claude.effort, converse(OPUS, outputConfig={"effort": "xhigh"})),
    (bedrock_claude.prefill, converse(OPUS, messages=[{"role": "assistant", "content": [{"text": "So"}]}])),
    (bedrock_claude.prefill, converse(messages=[{"role": "assistant", "content": [{"text": "So "}]}])),
    (bedrock_claude.output_schema, converse(outputConfig=JSON_ANSWER)),
    (bedrock_claude.output_schema, converse(toolConfig=specs(strict=True))),
    (bedrock_claude.tool_schema_top, converse(toolConfig=specs(inputSchema={"json": {"type": "object", "anyOf": []}}))),
    (bedrock_claude.window, converse(messages=LONG, inferenceConfig={"maxTokens": 64_000})),
    (gemini.file_of_others, generate(file="https://x/v1beta/files/abc")),
    (gemini.media_type, media("text/csv")),
    (gemini.model_turn_last, gone_on("gemini-3.8-flash")),
    (gemini.penalties, generate(presencePenalty=0.3)),
    (gemini.logprobs, generate(responseLogprobs=True)),
    (gemini.thinking_budget, generate(thinkingConfig={"thinkingBudget": 0})),
    (gemini.thinking_budget, generate(thinkingConfig={"thinkingBudget": 100})),
    (gemini.thinking_budget, generate("gemini-2.5-flash", thinkingConfig={"thinkingBudget": 24_577})),
    (gemini.thinking_level, generate(thinkingConfig={"thinkingLevel": "LOW"})),
    (gemini.thinking_level, generate("gemini-3.8-flash", thinkingConfig={"thinkingLevel": "MINIMAL"})),
    (gemini.thinking_level, generate("gemini-3.8-flash", thinkingConfig={"thinkingLevel": "XHIGH"})),
    (gemini.no_thinking, generate("gemini-2.0-flash", thinkingConfig={"thinkingBudget": 100})),
    (gemini.tools_with_json, generate(functions=[{"name": "f"}], responseMimeType="application/json")),
    (gemini.too_many_tokens, generate(maxOutputTokens=100_000)),
    (gemini.candidates, generate(candidateCount=9)),
    (gemini.too_many_stops, generate(stopSequences=list("abcdef"))),
    (gemini.function_name, generate(functions=[{"name": "1f"}])),
    (gemini.schemas, generate(functions=[{"name": "f", "parametersJsonSchema": {"type": "array"}}])),
    (gemini.function_response, result(["Sunny"])),
    (gemini.function_response, result({"schema": {"$ref": "#/$defs/x"}})),
    (groq.unsupported, chat("llama", logit_bias={"1": 1})),
    (groq.several, chat("llama", n=2)),
    (groq.message_field, chat("llama", messages=said("assistant", reasoning_content="hm"))),
    (groq.json_with_tools, chat("llama", tools=[TOOL], response_format={"type": "json_object"})),
    (groq.schema_bounds, chat("llama", response_format=answer_schema({"type": "array", "minItems": 1}))),
    (mistral.unknown_field, chat("mistral-large", max_completion_tokens=5)),
    (mistral.unknown_role, chat("mistral-large", messages=said("developer"))),
    (mistral.unknown_message_field, chat("mistral-large", messages=said("user", name="ann"))),
    (mistral.tool_call_id, chat("mistral-large", messages=said("assistant", tool_calls=[CALL]))),
    (deepseek.developer, chat("deepseek-chat", messages=said("developer"))),
    (deepseek.image, chat("deepseek-chat", messages=[{"role": "user", "content": [{"type": "image_url"}]}])),
    (deepseek.json_schema, chat("deepseek-chat", response_format=answer_schema(OPEN))),
    (deepseek.json_unsaid, chat("deepseek-chat", response_format={"type": "json_object"})),
    (xai.penalties, chat("grok-4", presence_penalty=0)),
    (xai.stop, chat("grok-4", stop=["x"])),
    (xai.effort, chat("grok-4", reasoning_effort="low")),
    (compatible.openrouter_tools, chat("any", tools=[TOOL])),
    (compatible.vllm_auto_tools, chat("any", tools=[TOOL])),
    (compatible.vllm_choice_alone, chat("any", tool_choice="none")),
    (compatible.vllm_window, chat("any", max_tokens=8190)),
    (compatible.openrouter_preferences, chat("any", provider={"only": ["tencent"]})),
    (compatible.openrouter_credit, chat("any", max_tokens=65_536)),
    (compatible.llama_roles, chat("any", messages=[*HI, *HI])),
    (compatible.firewall, chat("any", messages=[{"role": "user", "content": "What is ../../etc/passwd?"}])),
    (compatible.stream_options, chat("any", stream=True, stream_options={"include_usage": True})),
]
TAKEN: list[Request] = [
    chat(),
    chat(temperature=0.7, top_p=0.9, max_tokens=500, presence_penalty=0, stop=["x"], tools=[TOOL], tool_choice="auto"),
    chat("gpt-5.4-mini", max_completion_tokens=500, temperature=1, reasoning_effort="none", tools=[TOOL]),
    chat("gpt-5.4-mini", reasoning_effort="low", verbosity="low"),
    responses(
        made("reasoning"),
        made("function_call", id="fc_1_of_rs_1"),
        made("function_call_output", call_id="a", output="x"),
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}, {"type": "web_search"}],
        reasoning={"effort": "low"},
        include=["reasoning.encrypted_content"],
    ),
    converse(inferenceConfig={"temperature": 1, "maxTokens": 64_000, "stopSequences": ["END"]}),
    converse(toolConfig=specs()),
    with_documents("a pdf", "b-(1)"),
    media("application/pdf"),
    thinking(NEW_OPUS, effort="xhigh", type="adaptive"),
    thinking(HAIKU, {"maxTokens": 4000, "temperature": 1}, type="enabled", budget_tokens=2000),
    thinking(OPUS, messages=STEP, type="adaptive"),
    generate(temperature=0.5, topP=0.9, maxOutputTokens=65_536, thinkingConfig={"thinkingBudget": 128}),
    generate("gemini-3.8-flash", functions=[{"name": "f"}], responseMimeType="application/json"),
    generate("gemini-3.8-flash", thinkingConfig={"thinkingLevel": "LOW"}),
    result({"result": "Sunny"}),
]
OF_WIRE = {
    "chat": [*openai.RULES, *openai_reasoning.RULES, *azure.RULES],
    "responses": [*openai_responses.RULES],
    "converse": [*bedrock.RULES, *bedrock_claude.RULES],
    "generate": [*gemini.RULES],
}


SDK = OpenAI(api_key="k")


def openai_outcome(refusal: Refusal, asked: Any) -> Outcome:
    response = httpx2.Response(refusal.status, content=refusal.raw, request=httpx2.Request("POST", "http://x"))
    return openai_classify(SDK._make_status_error_from_response(response), asked).outcome


def google_outcome(refusal: Refusal, asked: Any) -> Outcome:
    return google_classify(APIError(refusal.status, refusal.body), asked).outcome


def bedrock_outcome(refusal: Refusal, asked: Any) -> Outcome:
    told = {"Code": refusal.headers["x-amzn-errortype"].partition(":")[0], "Message": refusal.body["message"]}
    error = ClientError({"Error": told, "ResponseMetadata": {"HTTPStatusCode": refusal.status}}, "Converse")
    return bedrock_classify(error, asked).outcome


CLASSIFIED = {"chat": openai_outcome, "responses": openai_outcome} | {
    "generate": google_outcome,
    "converse": bedrock_outcome,
}


def wire_of(request: Request) -> str:
    return next((wire for wire in ("converse", "generate", "responses") if wire in request.path.lower()), "chat")


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: f"{rule.__module__.rpartition('.')[2]}.{rule.__name__}")
def test_each_rule_has_its_source_and_a_request_that_it_refuses(rule: Rule) -> None:
    assert SOURCE.search(rule.__doc__ or ""), rule.__doc__
    assert rule in [refusing for refusing, _ in REFUSED]


@pytest.mark.parametrize(("rule", "request_"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_refuses_what_its_source_says_in_the_vendors_own_shape(rule: Rule, request_: Request) -> None:
    refusal = rule(request_)
    assert isinstance(refusal, Refusal)
    assert 400 <= refusal.status < 500 or rule is compatible.llama_roles
    assert isinstance(refusal.body, str) or json.loads(refusal.raw) == refusal.body


@pytest.mark.parametrize(("rule", "request_"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_no_refusal_of_a_request_moves_a_circuit_but_that_of_our_models_id(rule: Rule, request_: Request) -> None:
    refusal = rule(request_)
    assert refusal is not None
    outcome = CLASSIFIED[wire_of(request_)](refusal, request_.body)
    expected = Verdict.MISCONFIGURED if rule is bedrock.base_id else Verdict.REFUSED
    assert (outcome.verdict, outcome.ending.failover) == (expected, True), outcome


@pytest.mark.parametrize("request_", TAKEN, ids=lambda request: str(request.body)[:60])
def test_a_request_within_the_rules_is_taken(request_: Request) -> None:
    assert first_refusal(OF_WIRE[wire_of(request_)], request_) is None


@pytest.mark.parametrize("module", [groq, mistral, deepseek, xai])
def test_a_plain_request_is_taken_by_the_compatible_vendors(module: Any) -> None:
    plain = chat("any", temperature=0.5, max_tokens=5, stream=True)
    assert first_refusal(module.RULES, plain) is None


def test_the_models_id_is_read_from_where_the_vendor_has_it() -> None:
    assert model_of(converse()) == HAIKU
    assert model_of(generate()) == "gemini-2.5-pro"
    assert model_of(chat()) == "gpt-4.1"
    assert model_of(Request("/openai/deployments/mine/chat/completions", {"model": "x"})) == "mine"

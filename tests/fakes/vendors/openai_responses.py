"""OpenAI's Responses API: what it refuses of a request, asked without a store."""

import json
import re
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from openai.types.responses import ResponseIncludable, ResponseInputItemParam, ToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from tests.fakes.vendors import Asked, Refusal, Rule, model_of
from tests.fakes.vendors.openai import is_reasoning, loose_in, refuse
from tests.fakes.vendors.openai_reasoning import efforts_of

OWN = "gAAA"  # how the fake's own encrypted contents begin
_INCLUDABLE = frozenset(typing.get_args(ResponseIncludable))
_KNOWN = frozenset(ResponseCreateParamsBase.__annotations__) | {"stream"}


def _unknown(param: str) -> Refusal:
    return refuse(f"Unknown parameter: '{param}'.", param, "unknown_parameter")


def _missing(param: str) -> Refusal:
    return refuse(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _items(asked: Asked) -> list[Mapping[str, Any]]:
    given = asked.body.get("input")
    return given if isinstance(given, list) else []


def _kind(item: Mapping[str, Any]) -> str:
    return item.get("type") or "message"


@cache
def _fields(union: Any) -> Mapping[str, frozenset[str]]:
    """Return the fields that the SDK's types know, by the type of the item or the tool."""
    found: dict[str, set[str]] = {}
    for one in typing.get_args(union):
        hints = typing.get_type_hints(one, include_extras=False)
        for kind in typing.get_args(hints["type"]) or ("message",):
            if isinstance(kind, str):
                found.setdefault(kind, set()).update(hints)
            else:  # an Optional of literals
                for inner in typing.get_args(kind):
                    found.setdefault(inner, set()).update(hints)
    return {kind: frozenset(names) for kind, names in found.items()}


def unknown_field(asked: Asked) -> Refusal | None:
    """Refuse a field that the API does not know: 1jehuang/jcode#1028, openai-python `ResponseCreateParamsBase`."""
    unknown = [name for name in asked.body if name not in _KNOWN]
    return _unknown(unknown[0]) if unknown else None


def unknown_in_item(asked: Asked) -> Refusal | None:
    """Refuse items of a type that the API does not know, and their unknown fields: BerriAI/litellm#13420."""
    known = _fields(ResponseInputItemParam)
    for at, item in enumerate(_items(asked)):
        if (fields := known.get(_kind(item))) is None:
            return refuse(f"Invalid value: '{_kind(item)}'.", f"input[{at}]", "invalid_value")
        for name in item:
            if name not in fields:
                return _unknown(f"input[{at}].{name}")
    return None


def state_of_reasoning(asked: Asked) -> Refusal | None:
    """Refuse the status of reasoning: openai/openai-agents-python#3026, BerriAI/litellm#13420."""
    for at, item in enumerate(_items(asked)):
        if _kind(item) == "reasoning" and "status" in item:
            return _unknown(f"input[{at}].status")
    return None


def incomplete_reasoning(asked: Asked) -> Refusal | None:
    """Refuse reasoning without a summary, or that would have to be stored: newo-ether/Agora#141, vercel/ai#7543."""
    for at, item in enumerate(_items(asked)):
        if _kind(item) == "reasoning" and "summary" not in item:
            return _missing(f"input[{at}].summary")
        if _kind(item) == "item_reference" or (_kind(item) == "reasoning" and not item.get("encrypted_content")):
            message = (
                f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false. Try "
                "again with `store` set to true, or remove this item from your input."
            )
            return refuse(message, "input")
    return None


def foreign_reasoning(asked: Asked) -> Refusal | None:
    """Refuse what another account has encrypted: openai/codex#8119, lidge-jun/opencodex#2269."""
    for item in _items(asked):
        if _kind(item) == "reasoning" and not str(item.get("encrypted_content") or OWN).startswith(OWN):
            message = f"The encrypted content for item {item['id']} could not be verified."
            return refuse(message, None, "invalid_encrypted_content")
    return None


def loose_reasoning(asked: Asked) -> Refusal | None:
    """Refuse reasoning that no answer follows: continuedev/continue#8933, vercel/ai#7099."""
    items = _items(asked)
    for at, item in enumerate(items):
        after: Mapping[str, Any] = items[at + 1] if at + 1 < len(items) else {"role": "user"}
        follows = after.get("role") == "assistant" or not _kind(after).endswith(("message", "_output"))
        if _kind(item) == "reasoning" and not follows:
            message = f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
            return refuse(message, "input")
    return None


def lost_reasoning(asked: Asked) -> Refusal | None:
    """Refuse a call of ours by its id, without the reasoning that led to it: TanStack/ai#1212, laravel/ai#1052.

    The fake's ids name it: `fc_1_of_rs_1`.
    """
    there = {item.get("id") for item in _items(asked) if _kind(item) == "reasoning"}
    for item in _items(asked):
        found = re.search(r"_of_(rs_\w+)$", str(item.get("id")))
        if found and found.group(1) not in there:
            message = (
                f"Item '{item['id']}' of type '{_kind(item)}' was provided without its required 'reasoning' item: "
                f"'{found.group(1)}'."
            )
            return refuse(message, "input")
    return None


_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "web_search_call": "ws",
    "image_generation_call": "ig",
}


def foreign_id(asked: Asked) -> Refusal | None:
    """Refuse ids that are none of OpenAI's: openai/codex#33176, langchain-ai/langchainjs#11044.

    Of other kinds of items no report says what they begin with.
    """
    for at, item in enumerate(_items(asked)):
        prefix, key = _PREFIXES.get(_kind(item)), item.get("id")
        if key is None or (_kind(item) == "message" and item.get("role") != "assistant"):
            continue
        if not re.fullmatch(r"[\w-]+", key):
            message = (
                f"Invalid 'input[{at}].id': '{key}'. Expected an ID that contains letters, numbers, underscores, or "
                "dashes, but this value contained additional characters."
            )
        elif prefix is not None and not key.startswith(prefix):
            message = f"Invalid 'input[{at}].id': '{key}'. Expected an ID that begins with '{prefix}'."
        else:
            continue
        return refuse(message, f"input[{at}].id", "invalid_value")
    return None


def twice(asked: Asked) -> Refusal | None:
    """Refuse two items of one id: OpenRouterTeam/ai-sdk-provider#254, NousResearch/hermes-agent#7939."""
    keys = [item["id"] for item in _items(asked) if item.get("id") is not None]
    doubled = next((key for key in keys if keys.count(key) > 1), None)
    if doubled is None:
        return None
    message = f"Duplicate item found with id {doubled}. Remove duplicate items from your input and try again."
    return refuse(message, "input")


_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def order_of_calls(asked: Asked) -> Refusal | None:
    """Refuse a call without its output, or the reverse: RooCodeInc/Roo-Code#12248, continuedev/continue#10092."""
    waiting = dict[str, str]()
    for item in _items(asked):
        if _kind(item) in ("function_call", "custom_tool_call"):
            waiting[item["call_id"]] = _kind(item)
        elif _kind(item) in _OUTPUTS and waiting.pop(item["call_id"], None) is None:
            message = f"No tool call found for function call output with call_id {item['call_id']}."
            return refuse(message, "input")
    if waiting:
        return refuse(f"No tool output found for function call {min(waiting)}.", "input")
    return None


def long_call_id(asked: Asked) -> Refusal | None:
    """Refuse an id of a call of more than 64 characters: decolua/9router#393."""
    for at, item in enumerate(_items(asked)):
        if len(key := item.get("call_id") or "") > 64:
            message = (
                f"Invalid 'input[{at}].call_id': string too long. Expected a string with maximum length 64, but got a "
                f"string with length {len(key)} instead."
            )
            return refuse(message, f"input[{at}].call_id", "string_above_max_length")
    return None


_SAID = ("output_text", "refusal")
_GIVEN = ("input_text", "input_image", "input_file", "input_audio")


def part_of_another(asked: Asked) -> Refusal | None:
    """Refuse parts of a message that only the other side may send: jeremychone/rust-genai#119."""
    for at, item in enumerate(_items(asked)):
        content = item.get("content") if _kind(item) == "message" else None
        allowed = _SAID if item.get("role") == "assistant" else _GIVEN
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] not in allowed:
                listed = " and ".join(f"'{kind}'" for kind in allowed)
                message = f"Invalid value: '{part['type']}'. Supported values are: {listed}."
                return refuse(message, f"input[{at}].content[{index}]", "invalid_value")
    return None


def lacking_tool(asked: Asked) -> Refusal | None:
    """Refuse tools without a name, or in the form of a chat completion's: diegosouzapw/OmniRoute#2692.

    openai-python `FunctionToolParam`: name, parameters and strict are required.
    """
    known = _fields(ToolParam)
    for at, tool in enumerate(asked.body.get("tools") or ()):
        kind = tool.get("type")
        if kind in ("function", "custom") and not tool.get("name"):
            return _missing(f"tools[{at}].name")
        if kind == "function":
            for name in ("parameters", "strict"):
                if name not in tool:
                    return _missing(f"tools[{at}].{name}")
        for name in tool:
            if kind in known and name not in known[kind]:
                return _unknown(f"tools[{at}].{name}")
    return None


def _strict(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for at, tool in enumerate(body.get("tools") or ()):
        for function in tool.get("tools", ()) if tool.get("type") == "namespace" else (tool,):
            if function.get("type") == "function" and function.get("strict"):
                yield f"tools[{at}].parameters", f"function '{function['name']}'", function.get("parameters")
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("strict"):
        yield "text.format.schema", f"response_format '{wanted.get('name')}'", wanted.get("schema")


def loose_schema(asked: Asked) -> Refusal | None:
    """Refuse a strict schema with open objects or optional properties: guide "Structured outputs"."""
    return loose_in(_strict(asked.body))


def few_tokens(asked: Asked) -> Refusal | None:
    """Refuse a limit below 16 tokens: vectorize-io/hindsight#58."""
    given = asked.body.get("max_output_tokens")
    if given is None or given >= 16:
        return None
    message = (
        f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {given} instead."
    )
    return refuse(message, "max_output_tokens", "integer_below_min_value")


def stream_options_alone(asked: Asked) -> Refusal | None:
    """Refuse `stream_options` without `stream`: API reference, create a model response, `stream_options`."""
    if asked.body.get("stream_options") is None or asked.body.get("stream"):
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return refuse(message, "stream_options")


def unknown_include(asked: Asked) -> Refusal | None:
    """Refuse what can't be included: openai-python `ResponseIncludable`, API reference, `include`."""
    for at, name in enumerate(asked.body.get("include") or ()):
        if name not in _INCLUDABLE:
            return refuse(f"Invalid value: '{name}'.", f"include[{at}]", "invalid_value")
    return None


_PLAIN = re.compile(r"gpt-[34]|chatgpt")


def reasoning_of_others(asked: Asked) -> Refusal | None:
    """Refuse to tell reasoning of a model without any: NousResearch/hermes-agent#24234, guide "Reasoning"."""
    if not _PLAIN.match(model_of(asked)):
        return None
    if "reasoning.encrypted_content" in (asked.body.get("include") or ()):
        return refuse("Encrypted content is not supported with this model.", "include")
    given = asked.body.get("reasoning") or {}
    for name in ("effort", "summary"):
        if given.get(name) is not None:
            message = f"Unsupported parameter: 'reasoning.{name}' is not supported with this model."
            return refuse(message, f"reasoning.{name}", "unsupported_parameter")
    return None


def sampling(asked: Asked) -> Refusal | None:
    """Refuse a temperature or `top_p` of a model that reasons: johny-b/llmcomp#69 (gpt-5.4)."""
    for name in ("temperature", "top_p"):
        if is_reasoning(asked) and asked.body.get(name) not in (None, 1):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            return refuse(message, name, "unsupported_parameter")
    return None


def unknown_effort(asked: Asked) -> Refusal | None:
    """Refuse efforts that the model does not have: guide "Reasoning", `reasoning.effort` by model."""
    given = (asked.body.get("reasoning") or {}).get("effort")
    if given is None or not is_reasoning(asked) or given in (known := efforts_of(model_of(asked))):
        return None
    listed = ", ".join(f"'{word}'" for word in known)
    message = (
        f"Unsupported value: '{given}' is not supported with the '{model_of(asked)}' model. "
        f"Supported values are: {listed}."
    )
    return refuse(message, "reasoning.effort", "unsupported_value")


def json_unsaid(asked: Asked) -> Refusal | None:
    """Refuse JSON mode where the input does not say JSON: guide "Structured outputs", "JSON mode"."""
    wanted = (asked.body.get("text") or {}).get("format") or {}
    said = json.dumps([asked.body.get("input"), asked.body.get("instructions")]).lower()
    if wanted.get("type") != "json_object" or "json" in said:
        return None
    message = "Response input messages must contain the word 'json' in some form to use 'text.format' of 'json_object'."
    return refuse(message, "input")


# By settings of an account, and not in each test.


def unverified(asked: Asked) -> Refusal | None:
    """Refuse summaries to an organization that is not verified: BerriAI/litellm#16032, openai/openai-cookbook#2271."""
    if (asked.body.get("reasoning") or {}).get("summary") is None:
        return None
    return refuse(
        "Your organization must be verified to generate reasoning summaries. Please go to: "
        "https://platform.openai.com/settings/organization/general and click on Verify Organization.",
        "reasoning.summary",
        "unsupported_value",
    )


RULES: tuple[Rule, ...] = (
    *(unknown_field, unknown_in_item, state_of_reasoning, incomplete_reasoning, foreign_reasoning, loose_reasoning),
    *(lost_reasoning, foreign_id, twice, order_of_calls, long_call_id, part_of_another, lacking_tool, loose_schema),
    *(few_tokens, stream_options_alone, unknown_include, reasoning_of_others, sampling, unknown_effort, json_unsaid),
)

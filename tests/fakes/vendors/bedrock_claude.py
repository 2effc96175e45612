"""Anthropic's models on Bedrock, by Converse."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.fakes import schema_rules
from tests.fakes.vendors import Asked, Refusal, Rule, model_of
from tests.fakes.vendors.bedrock import PREFIX, refuse

_VERSION = re.compile(r"claude-(?P<name>opus|sonnet|haiku)-(?P<major>\d)(?:-(?P<minor>\d)(?!\d))?")


def version_of(asked: Asked) -> tuple[str, tuple[int, int]] | None:
    """Return the family and the version of a Claude from 4 on."""
    found = _VERSION.search(model_of(asked))
    return None if found is None else (found["name"], (int(found["major"]), int(found["minor"] or 0)))


def _from(asked: Asked, **least: tuple[int, int]) -> bool:
    """Is it of one of these families, and at least of this version?"""
    found = version_of(asked)
    return found is not None and found[0] in least and found[1] >= least[found[0]]


def temperature_beside_top_p(asked: Asked) -> Refusal | None:
    """Refuse both: lobehub/lobehub#9523, mem0ai/mem0#3891, aws-samples/bedrock-access-gateway#191, #208 and #238."""
    both = {"temperature", "topP"} <= asked.body.get("inferenceConfig", {}).keys()
    if not both or not _from(asked, opus=(4, 1), sonnet=(4, 5), haiku=(4, 5)):
        return None
    return refuse(f"{PREFIX}`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def sampling(asked: Asked) -> Refusal | None:
    """Refuse any sampling parameter from Opus 4.7 on: NousResearch/hermes-agent#37912, promptfoo/promptfoo#10307.

    Opus 5 is reported; Sonnet 5 and Haiku 5 are taken to be like it.
    """
    if not _from(asked, opus=(4, 7), sonnet=(5, 0), haiku=(5, 0)):
        return None
    for name, said in (("temperature", "temperature"), ("topP", "top_p")):
        if name in asked.body.get("inferenceConfig", {}):
            return refuse(f"{PREFIX}`{said}` is deprecated for this model.")
    return None


def temperature_range(asked: Asked) -> Refusal | None:
    """Refuse a temperature above 1: Anthropic's API reference, "Create a message", `temperature`."""
    if version_of(asked) is not None and asked.body.get("inferenceConfig", {}).get("temperature", 0) > 1:
        return refuse(f"{PREFIX}temperature: range: 0..1")
    return None


def too_many_tokens(asked: Asked) -> Refusal | None:
    """Refuse more tokens than the model gives: Anthropic's page "Models overview", NousResearch/hermes-agent#70222."""
    if (found := version_of(asked)) is None:
        return None
    most = 128_000 if found[1] >= (4, 6) else 32_000 if found[0] == "opus" and found[1] < (4, 5) else 64_000
    if asked.body.get("inferenceConfig", {}).get("maxTokens", 0) <= most:
        return None
    return refuse(
        f"The maximum tokens you requested exceeds the model limit of {most}. "
        f"Try again with a maximum tokens value that is lower than {most}."
    )


def blank_stop(asked: Asked) -> Refusal | None:
    """Refuse a stop sequence of white space: BerriAI/litellm#3286."""
    stops = asked.body.get("inferenceConfig", {}).get("stopSequences", ())
    if version_of(asked) is None or all(stop.strip() for stop in stops):
        return None
    return refuse(f"{PREFIX}stop_sequences: each stop sequence must contain non-whitespace")


def effort(asked: Asked) -> Refusal | None:
    """Refuse an effort where it is unknown: anthropics/claude-code#30760 and #30795, Oaklight/llm-rosetta#289."""
    given = asked.body.get("outputConfig", {}).get("effort")
    if given is None or version_of(asked) is None:
        return None
    if not _from(asked, opus=(4, 5), sonnet=(4, 6), haiku=(5, 0)):
        return refuse(f"{PREFIX}This model does not support the effort parameter.")
    known = ["low", "medium", "high"]
    known += ["max"] if _from(asked, opus=(4, 6), sonnet=(4, 6), haiku=(5, 0)) else []
    known += ["xhigh"] if _from(asked, opus=(4, 7), sonnet=(5, 0), haiku=(5, 0)) else []
    return None if given in known else refuse(f"{PREFIX}output_config.effort: Input should be one of {known}")


def effort_unthought(asked: Asked) -> Refusal | None:
    """Refuse more than a high effort without thinking: API reference, `OutputConfig.effort`."""
    given = asked.body.get("outputConfig", {}).get("effort")
    if version_of(asked) is None or given not in ("xhigh", "max") or _thinks(asked):
        return None
    return refuse(f"{PREFIX}output_config.effort: '{given}' needs thinking")


def _thinking(asked: Asked) -> Mapping[str, Any]:
    thinking: Mapping[str, Any] = (asked.body.get("additionalModelRequestFields") or {}).get("thinking", {})
    return thinking


def _thinks(asked: Asked) -> bool:
    by_default = _from(asked, opus=(5, 0), sonnet=(5, 0), haiku=(5, 0))
    return _thinking(asked).get("type", "enabled" if by_default else None) in ("enabled", "adaptive")


def thinking_type(asked: Asked) -> Refusal | None:
    """Refuse the form of other versions: guide "Adaptive thinking"; NousResearch/hermes-agent#11137 and #120069.

    Anthropic's pages "What's new" in Opus 5.5 and in Sonnet 5.5.
    """
    kind = _thinking(asked).get("type")
    if version_of(asked) is None or kind is None:
        return None
    if kind == "disabled" and _from(asked, opus=(5, 5), sonnet=(5, 5)):
        return refuse(f'{PREFIX}"thinking.type.disabled" is not supported for this model.')
    if kind == "disabled" or (kind == "between_tools" and _from(asked, sonnet=(5, 5))):
        return None
    if kind == "between_tools":
        return refuse(f"{PREFIX}thinking: Input tag 'between_tools' does not match any of the expected tags")
    if kind == "enabled" and _from(asked, opus=(4, 7), sonnet=(5, 0), haiku=(5, 0)):
        return refuse(f'{PREFIX}"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".')
    if kind == "adaptive" and not _from(asked, opus=(4, 6), sonnet=(4, 6), haiku=(5, 0)):
        return refuse(f"{PREFIX}adaptive thinking is not supported on this model")
    return None


def thinking_budget(asked: Asked) -> Refusal | None:
    """Refuse a budget below 1024, or one that the answer has no room for: guide "Extended thinking"."""
    budget = _thinking(asked).get("budget_tokens")
    if budget is None:
        return None
    if budget < 1024:
        return refuse(f"{PREFIX}thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= asked.body.get("inferenceConfig", {}).get("maxTokens", 64_000):
        return refuse(f"{PREFIX}`max_tokens` must be greater than `thinking.budget_tokens`.")
    return None


def thinking_beside(asked: Asked) -> Refusal | None:
    """Refuse sampling and a forced tool: dotCipher/opencode-claude-bridge#1, run-llama/llama_index#19641."""
    if version_of(asked) is None or not _thinks(asked):
        return None
    config = asked.body.get("inferenceConfig", {})
    if config.get("temperature", 1) != 1 or config.get("topP", 1) < 0.95:
        return refuse(f"{PREFIX}`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if {"any", "tool"} & (asked.body.get("toolConfig") or {}).get("toolChoice", {}).keys():
        return refuse(f"{PREFIX}Thinking may not be enabled when tool_choice forces tool use.")
    return None


def forced_tool(asked: Asked) -> Refusal | None:
    """Refuse a tool that must be called: stdapi-ai/stdapi.ai#284, Anthropic's page "What's new" in Sonnet 5.5."""
    forced = {"any", "tool"} & (asked.body.get("toolConfig") or {}).get("toolChoice", {}).keys()
    if not forced or not _from(asked, opus=(5, 5), sonnet=(5, 5)):
        return None
    return refuse(f"{PREFIX}tool_choice: this model does not support forced tool use.")


def thoughts_of_a_step(asked: Asked) -> Refusal | None:
    """Refuse calls without their thoughts in the step that goes on: page "Extended thinking with tool use".

    Adaptive thinking wants none: page "Adaptive thinking". An answer that was begun can't be thought about either.
    """
    messages = asked.body.get("messages") or []
    if not messages or _thinking(asked).get("type") != "enabled":
        return None
    if messages[-1]["role"] == "assistant":
        return refuse(f"{PREFIX}When `thinking` is enabled, a response can't be pre-filled.")
    if "toolResult" in messages[-1]["content"][0] and "reasoningContent" not in messages[-2]["content"][0]:
        return refuse(
            f"{PREFIX}messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is "
            "enabled, a final `assistant` message must start with a thinking block"
        )
    return None


def signatures(asked: Asked) -> Refusal | None:
    """Refuse thoughts whose signature is none of Claude's: page "Extended thinking", better-ccflare#52.

    It stands in no list: which signatures are Claude's, a test says by the wire's.
    """
    for at, message in enumerate(asked.body.get("messages") or []):
        for inner, block in enumerate(message["content"]):
            text = block.get("reasoningContent", {}).get("reasoningText")
            if text is not None and not text["signature"].startswith("c2ln"):
                return refuse(f"{PREFIX}messages.{at}.content.{inner}: Invalid `signature` in `thinking` block")
    return None


def prefill(asked: Asked) -> Refusal | None:
    """Refuse an assistant's turn at the end: lobehub/lobehub#12155, Anthropic's page "Migration guide".

    Older models take one that does not end in white space: Anthropic's page "Prefill Claude's response".
    """
    messages = asked.body.get("messages") or [{}]
    if messages[-1].get("role") != "assistant" or version_of(asked) is None:
        return None
    if _from(asked, opus=(4, 6), sonnet=(4, 6), haiku=(5, 0)):
        return refuse(
            f"{PREFIX}This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    text = messages[-1]["content"][-1].get("text", "")
    if text != text.rstrip():
        return refuse(f"{PREFIX}messages: final assistant content cannot end with trailing whitespace")
    return None


def output_schema(asked: Asked) -> Refusal | None:
    """Refuse what Claude's grammar can't hold: future-agi/future-agi#412, Anthropic's page "Structured outputs"."""
    if not version_of(asked):
        return None
    wanted = asked.body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
    if "schema" in wanted and (why := schema_rules.claude_output(json.loads(wanted["schema"]))):
        return refuse(f"{PREFIX}output_config.format.schema: {why}")
    for at, tool in enumerate((asked.body.get("toolConfig") or {}).get("tools", ())):
        spec = tool.get("toolSpec", {})
        if spec.get("strict") and (why := schema_rules.claude_strict_tool(spec["inputSchema"]["json"])):
            return refuse(f"{PREFIX}tools.{at}.custom.input_schema: {why}")
    return None


def tool_schema_top(asked: Asked) -> Refusal | None:
    """Refuse a union at the top of a tool's schema: anthropics/claude-code#5973, abhigyanpatwari/GitNexus#2487."""
    for at, tool in enumerate((asked.body.get("toolConfig") or {}).get("tools", ())):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {})
        if version_of(asked) and {"oneOf", "allOf", "anyOf"} & schema.keys():
            return refuse(
                f"{PREFIX}tools.{at}.custom.input_schema: "
                "input_schema does not support oneOf, allOf, or anyOf at the top level"
            )
    return None


CONTEXT = 200_000


def window(asked: Asked) -> Refusal | None:
    """Refuse prompt and answer that are longer than the window together: Anthropic's page "Context windows"."""
    prompt = len(json.dumps(asked.body.get("messages", []), default=str)) // 4
    answer = asked.body.get("inferenceConfig", {}).get("maxTokens", 0)
    if version_of(asked) is None or prompt + answer <= CONTEXT:
        return None
    return refuse(
        f"{PREFIX}input length and `max_tokens` exceed context limit: {prompt} + {answer} > {CONTEXT}, "
        "decrease input length or `max_tokens` and try again"
    )


RULES: tuple[Rule, ...] = (
    sampling,
    temperature_beside_top_p,
    temperature_range,
    too_many_tokens,
    blank_stop,
    effort,
    effort_unthought,
    thinking_type,
    thinking_budget,
    forced_tool,
    thinking_beside,
    thoughts_of_a_step,
    prefill,
    output_schema,
    tool_schema_top,
    window,
)

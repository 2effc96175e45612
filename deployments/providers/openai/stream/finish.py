"""The finish reasons of servers that speak OpenAI's API, in OpenAI's words. Pure.

A word that is not in the table is a failure: nobody can tell whether such an answer is whole. It is better to ask
another tier than to hand over half an answer as a whole one.
"""

import re

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonValue

# Words are compared without case. The sources are beside them.
_WORDS = {
    "stop": {
        "stop",
        "eos",  # Together: openai/openai-dotnet#267
        "eos_token",  # TGI: huggingface/text-generation-inference#2344; watsonx.ai
        "stop_token",
        "stop_sequence",  # TGI, Cohere, Anthropic, watsonx.ai
        "end_turn",  # Anthropic, and gateways before Bedrock: aws-samples/bedrock-access-gateway#11
        "end",  # earendil-works/pi#2107
        "complete",  # Cohere: "Chat API (v2)", `finish_reason`
        "completed",
        "endoftext",  # AI21
        "normal",  # Qianfan (ERNIE)
        "stopped",
    },
    "length": {
        "length",
        "max_tokens",  # Anthropic, Cohere, Gemini, watsonx.ai
        "max_token",
        "max_output_tokens",
        "token_limit",  # watsonx.ai
        "model_length",  # Mistral: "Chat", `finish_reason`
        "model_context_window_exceeded",  # Anthropic, GLM
        "max_context_length",
        "continuation",  # Gemini's, as in google/codec.py
    },
    "tool_calls": {
        "tool_calls",
        "tool_call",  # Cohere
        "tool_use",  # Anthropic
        "function_calls",
    },
    "function_call": {"function_call"},
    "content_filter": {
        "content_filter",
        "content_filtered",  # Bedrock
        "guardrail_intervened",  # Bedrock
        "refusal",  # Anthropic: "Handling stop reasons"
        "sensitive",  # GLM
        "error_toxic",  # Cohere, v1
        # Gemini's enum `FinishReason`, which compatible servers pass on as it is (HKUDS/Vibe-Trading#308).
        *("safety", "recitation", "blocklist", "prohibited_content", "spii", "language", "escalation"),
        *("image_safety", "image_prohibited_content", "image_recitation", "model_armor"),
    },
}
_FINISH = {word: finish for finish, words in _WORDS.items() for word in words}
_PREFIX = re.compile(r"finish_?reason[_.]")  # of enums that are printed whole
_NOT_YET = frozenset({"", "null", "none"})  # DashScope (Qwen) writes "null" until the end


def finish_word(reason: JsonValue) -> str | None:
    """Return OpenAI's word; None if the choice has not ended. Raises `server_error` with a word that is a failure."""
    if not isinstance(reason, str):
        return None
    word = _PREFIX.sub("", reason.strip().lower().replace("-", "_"))
    if word in _NOT_YET:
        return None
    if (finish := _FINISH.get(word)) is None:
        raise ended_badly(reason)
    return finish


def ended_badly(reason: str) -> AttemptFailed:
    """Return the failure of an answer that ended with such a word."""
    return failed("server_error", f"the model stopped with {reason[:100]!r}", code=reason[:100])

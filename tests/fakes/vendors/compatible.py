"""Aggregators and servers of one's own with OpenAI's API: OpenRouter, vLLM, llama.cpp, firewalls, strict servers."""

import json
from itertools import pairwise

from tests.fakes.vendors import Asked, Refusal, Rule


def vllm_refuse(message: str, status: int = 400) -> Refusal:
    """Return a refusal in vLLM's shape: the status is repeated as the code."""
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return Refusal(status, {"error": error})


def openrouter_tools(asked: Asked) -> Refusal | None:
    """Refuse tools, as OpenRouter does for a model that has none: evalstate/fast-agent#122, Kilo-Org/kilocode#9006."""
    if not asked.body.get("tools"):
        return None
    message = (
        "No endpoints found that support tool use. "
        "To learn more about provider routing, visit: https://openrouter.ai/docs/guides/routing/provider-selection"
    )
    return Refusal(404, {"error": {"message": message, "code": 404}})


def vllm_auto_tools(asked: Asked) -> Refusal | None:
    """Refuse a free choice of tools, as vLLM does without a parser for them: vllm-project/vllm#9986."""
    if not asked.body.get("tools") or asked.body.get("tool_choice", "auto") != "auto":
        return None
    return vllm_refuse('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')


def vllm_choice_alone(asked: Asked) -> Refusal | None:
    """Refuse `tool_choice` without tools: vllm-project/vllm#9426."""
    if asked.body.get("tool_choice") is None or asked.body.get("tools"):
        return None
    return vllm_refuse("Value error, When using `tool_choice`, `tools` must be set.")


def stream_options(asked: Asked) -> Refusal | None:
    """Refuse `stream_options`, as strict servers do: openai/openai-agents-python#442, anomalyco/opencode#4698."""
    if asked.body.get("stream_options") is None:
        return None
    detail = {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
    return Refusal(422, {"detail": [{**detail, "input": asked.body["stream_options"]}]})


def openrouter_preferences(asked: Asked) -> Refusal | None:
    """Refuse what no provider that the client allows can serve: anomalyco/opencode#45995, farion1231/cc-switch#995."""
    only = (asked.body.get("provider") or {}).get("only")
    if not only:
        return None
    metadata = {"available_providers": ["z-ai"], "requested_providers": only}
    message = "No allowed providers are available for the selected model."
    return Refusal(404, {"error": {"message": message, "code": 404, "metadata": metadata}})


CAN_AFFORD = 4012


def openrouter_credit(asked: Asked) -> Refusal | None:
    """Refuse a limit above what the account can pay: can1357/oh-my-pi#9569, QwenLM/qwen-code#73."""
    given = asked.body.get("max_tokens") or asked.body.get("max_completion_tokens") or 0
    if given <= CAN_AFFORD:
        return None
    message = (
        f"This request requires more credits, or fewer max_tokens. You requested up to {given} tokens, "
        f"but can only afford {CAN_AFFORD}. To increase, visit https://openrouter.ai/settings/credits"
    )
    return Refusal(402, {"error": {"message": message, "code": 402, "metadata": {"provider_name": None}}})


WINDOW = 8192


def vllm_window(asked: Asked) -> Refusal | None:
    """Refuse prompt and answer that are longer than the window together: vllm-project/vllm#20409."""
    prompt, answer = len(json.dumps(asked.body.get("messages"))) // 4, asked.body.get("max_tokens") or 0
    if prompt + answer <= WINDOW:
        return None
    return vllm_refuse(
        f"This model's maximum context length is {WINDOW} tokens. However, you requested {prompt + answer} tokens "
        f"({prompt} in the messages, {answer} in the completion). Please reduce the length of the messages."
    )


def llama_roles(asked: Asked) -> Refusal | None:
    """Refuse two messages of one role with a 500, as a template does: ggml-org/llama.cpp#19851, idiap/sdialog#122."""
    roles = [message["role"] for message in asked.body.get("messages", ()) if message["role"] != "system"]
    if all(role != then for role, then in pairwise(roles)):
        return None
    message = (
        "\n------------\nWhile executing CallExpression at line 19, column 27 in source:\n"
        "Error: Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/..."
    )
    return Refusal(500, {"error": {"code": 500, "message": message, "type": "server_error"}})


def firewall(asked: Asked) -> Refusal | None:
    """Refuse what looks like an attack: OpenHands/OpenHands#4480, aws-samples/sample-kolya-br-proxy#38."""
    if "../../" not in json.dumps(asked.body):
        return None
    page = (
        "<!DOCTYPE html>\n<html><head><title>Attention Required! | Cloudflare</title></head><body>blocked</body></html>"
    )
    return Refusal(403, page)


OPENROUTER_WITHOUT_TOOLS: tuple[Rule, ...] = (openrouter_tools,)
VLLM: tuple[Rule, ...] = (vllm_auto_tools, vllm_choice_alone, vllm_window)
STRICT: tuple[Rule, ...] = (stream_options,)
OPENROUTER: tuple[Rule, ...] = (openrouter_preferences, openrouter_credit)
LLAMA: tuple[Rule, ...] = (llama_roles,)
FIREWALL: tuple[Rule, ...] = (firewall,)

"""Aggregators and servers of one's own that speak OpenAI's API: OpenRouter, vLLM as it starts, strict servers."""

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


OPENROUTER_WITHOUT_TOOLS: tuple[Rule, ...] = (openrouter_tools,)
VLLM: tuple[Rule, ...] = (vllm_auto_tools, vllm_choice_alone)
STRICT: tuple[Rule, ...] = (stream_options,)

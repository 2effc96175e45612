"""OpenAI's models that reason, by chat completions: the o-series and GPT-5 and later."""

import re

from tests.fakes.vendors import Asked, Refusal, Rule, model_of
from tests.fakes.vendors.openai import is_reasoning, refuse


def _unsupported(name: str, instead: str = "") -> Refusal:
    message = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
    return refuse(message, name, "unsupported_parameter")


def max_tokens(asked: Asked) -> Refusal | None:
    """Refuse `max_tokens`: fish2018/YPrompt#26, guide "Reasoning models"."""
    if not is_reasoning(asked) or asked.body.get("max_tokens") is None:
        return None
    return _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")


def sampling(asked: Asked) -> Refusal | None:
    """Refuse a temperature or `top_p` other than 1: johny-b/llmcomp#69 (gpt-5.4), tmc/langchaingo#1355.

    OpenAI's guide allows both from GPT-5.1 on without reasoning; reports about the same models say otherwise.
    """
    if not is_reasoning(asked):
        return None
    for name in ("temperature", "top_p"):
        if (given := asked.body.get(name)) not in (None, 1):
            message = (
                f"Unsupported value: '{name}' does not support {given} with this model. "
                "Only the default (1) value is supported."
            )
            return refuse(message, name, "unsupported_value")
    return None


def penalties(asked: Asked) -> Refusal | None:
    """Refuse penalties: nextai-translator/nextai-translator#1781 (gpt-5-mini)."""
    for name in ("presence_penalty", "frequency_penalty"):
        if is_reasoning(asked) and asked.body.get(name):
            return _unsupported(name)
    return None


def stop(asked: Asked) -> Refusal | None:
    """Refuse `stop`: FlowiseAI/Flowise#5046, huggingface/smolagents#1868 (gpt-5.1), crewAIInc/crewAI#5144 (gpt-5.x)."""
    return _unsupported("stop") if is_reasoning(asked) and asked.body.get("stop") else None


def logprobs(asked: Asked) -> Refusal | None:
    """Refuse log probabilities and biases: guide "Reasoning models", CopilotKit/CopilotKit#7191."""
    for name in ("logprobs", "top_logprobs", "logit_bias"):
        if is_reasoning(asked) and asked.body.get(name):
            return _unsupported(name)
    return None


def unknown_effort(asked: Asked) -> Refusal | None:
    """Refuse efforts that the model does not have: guide "Reasoning", `reasoning.effort` by model."""
    if not is_reasoning(asked) or (given := asked.body.get("reasoning_effort")) is None:
        return None
    known = efforts_of(model_of(asked))
    if given in known:
        return None
    listed = ", ".join(f"'{word}'" for word in known)
    message = (
        f"Unsupported value: 'reasoning_effort' does not support '{given}' with this model. "
        f"Supported values are: {listed}."
    )
    return refuse(message, "reasoning_effort", "unsupported_value")


def efforts_of(model: str) -> tuple[str, ...]:
    if re.match(r"o\d", model):
        return ("low", "medium", "high")
    if re.match(r"gpt-5(?:-|$)", model):
        return ("minimal", "low", "medium", "high")
    if model.startswith("gpt-5.1"):
        return ("none", "low", "medium", "high")
    return ("none", "low", "medium", "high", "xhigh")  # from GPT-5.2 on there is no `minimal`


def tools_with_effort(asked: Asked) -> Refusal | None:
    """Refuse tools of a model that reasons: openai/openai-openapi#541 (gpt-5.4), pipecat-ai/pipecat#4043.

    From GPT-5.5 on the effort need not be given: BerriAI/litellm#34569, jeffdafoe/llm-memory-api#178.
    """
    model = model_of(asked)
    always = re.match(r"gpt-(?:5\.[5-9]|[6-9])", model) is not None
    if not asked.body.get("tools") or not (always or model.startswith("gpt-5.4")):
        return None
    effort = asked.body.get("reasoning_effort")
    if effort == "none" or (effort is None and not always):
        return None
    message = (
        f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. "
        "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
    )
    return refuse(message, "reasoning_effort")


RULES: tuple[Rule, ...] = (max_tokens, sampling, penalties, stop, logprobs, unknown_effort, tools_with_effort)

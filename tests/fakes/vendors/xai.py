"""xAI's chat completions."""

import re

from tests.fakes.vendors import Asked, Refusal, Rule, model_of


def refuse(message: str) -> Refusal:
    """Return a refusal in xAI's shape, where the error is a text."""
    return Refusal(400, {"code": "Client specified an invalid argument", "error": message})


def penalties(asked: Asked) -> Refusal | None:
    """Refuse penalties, of 0 too: n8n-io/n8n#14581, miaoxworld/NativeTavern#83, lobehub/lobehub#8381."""
    for name, said in (("presence_penalty", "presencePenalty"), ("frequency_penalty", "frequencyPenalty")):
        if asked.body.get(name) is not None:
            return refuse(f"Model {model_of(asked)} does not support parameter {said}.")
    return None


def stop(asked: Asked) -> Refusal | None:
    """Refuse `stop` of a model that reasons: xAI's page "Reasoning"."""
    if asked.body.get("stop") and not re.search(r"non-reasoning|grok-[23](?!-mini)", model_of(asked)):
        return refuse("Argument not supported on this model: stop")
    return None


def effort(asked: Asked) -> Refusal | None:
    """Refuse an effort, but of the models that have it: NousResearch/hermes-agent#23435, BerriAI/litellm#16265."""
    has = re.search(r"grok-3-mini|grok-4\.3|multi-agent", model_of(asked))
    if asked.body.get("reasoning_effort") is None or has:
        return None
    return refuse(f"Model {model_of(asked)} does not support parameter reasoningEffort.")


RULES: tuple[Rule, ...] = (penalties, stop, effort)

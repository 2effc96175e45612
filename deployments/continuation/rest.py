"""The request for the rest of an answer: the client's own, with the delivered text as the assistant's turn. Pure."""

from collections.abc import Sequence
from typing import Any

from deployments.continuation.methods import Method
from deployments.continuation.stitch import Cut
from deployments.openai_api.chat import stops_of
from deployments.openai_api.json_types import JsonDict, JsonObject

# A model that goes on with a text can't think first (Claude, vLLM, llama.cpp).
_THINKING = ("reasoning_effort", "reasoning", "thinking", "verbosity")
_LIMITS = ("max_tokens", "max_completion_tokens")

# Anthropic, "Migrating to Claude 4.6", has these words for a user's turn in place of a prefill; the last sentence is
# ours: what is repeated proves where the rest begins.
_PLEASE = (
    "Your previous response was interrupted and ended with these words:\n\n{anchor}\n\n"
    "Continue from where you left off. Begin your response with exactly these words, without quotes, and go on "
    "behind them. Write nothing before them."
)


def may_continue(body: JsonObject, *, json: bool) -> bool:
    """Return whether another model may go on with a text that answers this request.

    `json`: also where the text must be JSON. A request for several answers, for probabilities, for sound, or for a call
    of a tool can't be continued, and neither can one whose own last turn is the assistant's.
    """
    choice = body.get("tool_choice")
    return not (
        (body.get("n") or 1) > 1
        or body.get("logprobs")
        or (body.get("modalities") or ["text"]) != ["text"]
        or (wants_json(body) and not json)
        or isinstance(choice, dict)
        or choice == "required"
        or isinstance(body.get("function_call"), dict)
        or body["messages"][-1].get("role") == "assistant"
    )


def wants_json(body: JsonObject) -> bool:
    """Return whether the answer must be JSON."""
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") not in (None, "text")


def may_straddle(body: JsonObject, text: str) -> bool:
    """Return whether a text ends with the begin of one of the request's stop sequences: nobody would see the whole."""
    return any(text.endswith(stop[:size]) for stop in stops_of(body) or () for size in range(1, len(stop)))


def tokens_left(body: JsonObject, used: int) -> int | None:
    """Return how many tokens of the request's limit are left; None if it has none."""
    given = [limit for name in _LIMITS if (limit := body.get(name)) is not None]
    return None if not given else int(min(given)) - used


def body_for_rest(body: JsonObject, cut: Cut, anchor: str, method: Method, used: int) -> tuple[JsonDict, Sequence[str]]:
    """Return the request for the rest, and the fields that it goes without. `used` tokens of its limit are gone.

    `anchor`: the words that the model is asked to repeat, where it is asked to.
    """
    dropped = [name for name in _THINKING if body.get(name) is not None]
    made: JsonDict = {name: value for name, value in body.items() if name not in dropped}
    for name in _LIMITS:
        if made.get(name) is not None:
            made[name] = max(1, int(made[name]) - used)
    messages: list[Any] = list(made["messages"])
    if anchor:
        messages += [{"role": "assistant", "content": cut.begun + cut.must}]
        messages += [{"role": "user", "content": _PLEASE.format(anchor=anchor)}]
    elif cut.begun:
        messages.append(_begun(cut.begun, method))
        if method.word == "continue_final_message" and not method.forced:
            made |= {"continue_final_message": True, "add_generation_prompt": False}
    return {**made, "messages": messages}, dropped


def _begun(text: str, method: Method) -> JsonDict:
    flags: JsonDict = {method.word: True} if method.word in ("prefix", "partial") else {}
    return {"role": "assistant", "content": text, **flags}

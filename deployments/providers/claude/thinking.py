"""How much Claude thinks before it answers: OpenAI's `reasoning_effort` in the words of each of its versions. Pure.

From 4.6 on Claude decides itself how much it thinks (`adaptive`), and an effort guides it. Effort alone is not enough:
up to 4.8 nothing is thought without `thinking`, nor without an effort by Converse (BerriAI/litellm#36507,
decolua/9router#2635). Before, it gets a budget of tokens. Sources: AWS, Adaptive thinking, and Extended thinking.

From 5 on it thinks by itself, and `none` turns that off where it can be turned off: Opus 5 and Sonnet 5 and Haiku take
`disabled`, Sonnet from 5.5 on `between_tools`. Opus from 5.5 on, Fable and Mythos always think, and the least for
`none`. Source: Anthropic, What's new in Claude Opus 5.5, Sonnet 5.5, Haiku 5.5 and Fable 5.1.

A demand of the request goes before its effort, which is a hint. So Claude does not think where that is refused: where
a tool must be called (run-llama/llama_index#19641), and with a budget also where the answer has begun already. Its
answer has begun with calls that it did not think about, too: it wants the thoughts of a step that goes on, and another
provider's are of no use (Anthropic, Extended thinking with tool use).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from deployments.openai_api.chat import max_tokens_of
from deployments.openai_api.json_types import JsonDict, JsonObject

_CLAUDE = re.compile(r"claude-(opus|sonnet|haiku|mythos|fable)-(\d)(?:[-.](\d))?(?!\d)")
_OFF, _LEAST = "disabled", "low"
_EFFORT = {"minimal": "low"}
_UNTHOUGHT = {**_EFFORT, "xhigh": "high", "max": "high"}  # botocore, OutputConfig.effort: high is the most without
# The reverse of the table by which the Messages API's budgets become efforts.
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384}
_LARGEST_BUDGET = 31_999
_LEAST_BUDGET = 1024  # Anthropic, Extended thinking


@dataclass(frozen=True, slots=True)
class ThinkingModel:
    """How a version of Claude is told to think.

    Attributes:
        adaptive: it decides how much; else it is given a budget.
        takes_effort: it knows the parameter.
        hides: what it thinks comes only if it is asked for.
        off: the type of `thinking` that turns off what it thinks by itself; None if it does not, or can't be told.
        always: it can't be told.
    """

    adaptive: bool = False
    takes_effort: bool = False
    hides: bool = False
    off: str | None = None
    always: bool = False


def version_in(model: str) -> tuple[str, tuple[int, int]] | None:
    """Return the family and the version of a Claude from 4 on, by its id at any vendor."""
    found = _CLAUDE.search(model)
    return None if found is None else (found[1], (int(found[2]), int(found[3] or 0)))


@lru_cache(maxsize=1024)
def thinking_model(model: str) -> ThinkingModel | None:
    """Return how a model is told to think, by its id at any vendor; None if it is no Claude that can."""
    if "claude-3-7" in model:
        return ThinkingModel()
    if "claude-mythos-preview" in model:
        return ThinkingModel(adaptive=True, takes_effort=True, hides=True, always=True)
    if (found := version_in(model)) is None:
        return None
    family, version = found
    if version < (4, 6):
        return ThinkingModel(takes_effort=(family, version) == ("opus", (4, 5)))
    off = _off(family, version)
    return ThinkingModel(
        adaptive=True,
        takes_effort=True,
        hides=version >= (4, 7),
        off=off,
        always=version >= (5, 0) and off is None,
    )


def _off(family: str, version: tuple[int, int]) -> str | None:
    if version < (5, 0) or family in ("mythos", "fable"):
        return None
    if version < (5, 5) or family == "haiku":
        return _OFF
    return "between_tools" if family == "sonnet" else None


def takes_thinking(how: ThinkingModel, kind: str) -> bool:
    """Return whether a model takes a type of `thinking`. Those from 4.7 on, which hide thoughts, take no budget."""
    if kind == "adaptive":
        return how.adaptive
    if kind == "enabled":
        return not (how.hides or how.always)
    return how.off == kind or (kind == _OFF and how.off is None and not how.always)


def thinking_of(body: JsonObject, model: str, *, forced: bool, can_begin: bool) -> tuple[str | None, JsonDict | None]:
    """Return the effort and the `thinking` of a request; None for what is not sent.

    `forced` is whether a tool must be called. `can_begin` is whether an answer begins here, or goes on behind calls
    that have their thoughts.
    """
    effort, how = body.get("reasoning_effort"), thinking_model(model)
    asked = None if effort in (None, "none") else str(effort)
    if how is None:
        return (None if asked is None else _EFFORT.get(asked, asked)), None
    if forced or effort == "none":
        thinking = {"type": how.off} if how.off else None
    elif asked is None:
        thinking = None
    else:
        thinking = _adaptive(how) if how.adaptive else _budgeted(asked, body, can_begin=can_begin)
    if effort == "none" and how.always:
        return _LEAST, None
    if asked is None or not how.takes_effort:
        return None, thinking
    thinks = thinking is not None and thinking["type"] != how.off
    return (_EFFORT if thinks else _UNTHOUGHT).get(asked, asked), thinking


def _adaptive(how: ThinkingModel) -> JsonDict:
    # Without it, thoughts of newer models are empty but for the signature: strands-rl/strands-env#258.
    return {"type": "adaptive", **({"display": "summarized"} if how.hides else {})}


def _budgeted(effort: str, body: JsonObject, *, can_begin: bool) -> JsonDict | None:
    """Return a budget that leaves half of the answer's tokens for the answer; None if that is too little to think."""
    most = max_tokens_of(body)
    budget = _BUDGETS.get(effort, _LARGEST_BUDGET)
    budget = budget if most is None else min(budget, most // 2)
    if budget < _LEAST_BUDGET or not can_begin:
        return None
    return {"type": "enabled", "budget_tokens": budget}

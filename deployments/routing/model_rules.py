"""What the models of a kind refuse of a chat request, by the pattern of their id, before they are asked. Pure data.

A kind of provider says what its API has; a model may take less than its API. What is not known here is sent as it is,
and what the model then refuses is learned (`refusals.py`). So a rule stands here only if leaving a field out is safe
where the rule is wrong: it names hints, limits and combinations, each with the source that says so.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.claude.outputs import OUTPUTS
from deployments.providers.kinds import KINDS


@dataclass(frozen=True, slots=True)
class ModelRule:
    """What the models whose id matches refuse.

    Attributes:
        kinds: of provider, as `providers/kinds.py` names them.
        models: searched in the lower-cased id.
        source: who says so.
        hints: fields that are left out unless their value is one of these.
        thinking: whether `hints` are left out only where the model is asked to think.
        unless: fields of `hints` that are kept where the request has this effort.
        either: of two fields only the first is sent.
        most: the highest number of tokens of an answer. A higher one is lowered to it.
        efforts: the values of `reasoning_effort` that it takes, weakest first; another becomes the nearest of them.
        blank_stops: whether a stop sequence may be white space alone.
        prefill: whether the assistant may have the last word of a request.
        json_with_tools: whether an answer can be held to JSON while tools are offered.
        schema: whether an answer can be held to a JSON schema.
    """

    kinds: frozenset[str]
    models: re.Pattern[str]
    source: str
    hints: Mapping[str, tuple[JsonValue, ...]] = field(default_factory=dict)
    thinking: bool = False
    unless: str | None = None
    either: tuple[tuple[str, str], ...] = ()
    most: int | None = None
    efforts: tuple[str, ...] = ()
    blank_stops: bool = True
    prefill: bool = True
    json_with_tools: bool = True
    schema: bool = True


def _rule(kinds: str, models: str, source: str, **what: object) -> ModelRule:
    return ModelRule(frozenset(kinds.split()), re.compile(models), source, **what)  # type: ignore[arg-type]


_CLAUDE = "bedrock anthropic"  # the kinds that serve it
_NO_SAMPLING: Mapping[str, tuple[JsonValue, ...]] = {"temperature": (1,), "top_p": (1,)}
_NO_CLAUDE_SAMPLING: Mapping[str, tuple[JsonValue, ...]] = {**_NO_SAMPLING, "top_k": ()}
_NO_PENALTIES: Mapping[str, tuple[JsonValue, ...]] = {"presence_penalty": (0,), "frequency_penalty": (0,)}
_NO_EFFORT: Mapping[str, tuple[JsonValue, ...]] = {"reasoning_effort": ()}

# An id as each place writes it: claude-haiku-4-5, us.anthropic.claude-haiku-4-5-v1:0, anthropic/claude-haiku-4.5.
_CLAUDE_45 = r"claude-(?:opus-4[-.]1|(?:opus|sonnet|haiku)-4[-.][5-9]|(?:opus|sonnet|haiku|mythos|fable)-[5-9])"
_CLAUDE_46 = r"claude-(?:(?:opus|sonnet|haiku)-4[-.][6-9]|(?:opus|sonnet|haiku|mythos|fable)-[5-9])"
_CLAUDE_47 = r"claude-(?:opus-4[-.][7-9]|(?:opus|sonnet|haiku|mythos|fable)-[5-9])"
_GPT_REASONING = r"(?:^|/)(?:o[134](?:-|$)|gpt-5(?![\d.]*-chat)(?:-|$))"
_GPT_REASONING_BY_EFFORT = r"(?:^|/)gpt-(?:5\.\d+|[6-9][\d.]*)(?!\S*chat)"
_GPT_PLAIN = r"(?:^|/)(?:chatgpt-4o|gpt-(?:3\.5|4))"

RULES: tuple[ModelRule, ...] = (
    # Claude, whoever serves it.
    _rule(
        _CLAUDE,
        _CLAUDE_45,
        "open-webui/functions#9, Anthropic: Claude 4.1 and later take one of the two",
        either=(("temperature", "top_p"),),
    ),
    _rule(
        _CLAUDE,
        _CLAUDE_47,
        "Anthropic, migrating to Claude Opus 4.7; Comfy-Org/ComfyUI#13923, promptfoo/promptfoo#10830",
        hints=_NO_CLAUDE_SAMPLING,
    ),
    _rule(
        _CLAUDE,
        r"claude-(?:3[-.]7|(?:opus|sonnet|haiku)-4)",
        "Anthropic, Extended thinking: feature compatibility; dotCipher/opencode-claude-bridge#1",
        hints=_NO_CLAUDE_SAMPLING,
        thinking=True,
    ),
    _rule(_CLAUDE, r"claude", "Anthropic, Messages: each stop sequence must contain non-whitespace", blank_stops=False),
    _rule(
        _CLAUDE,
        r"claude-(?:3[-.]5|3-(?:haiku|sonnet|opus)|v2|instant)",
        "AWS, Extended thinking: Claude 3.7 Sonnet and later",
        hints=_NO_EFFORT,
    ),
    _rule(
        _CLAUDE,
        _CLAUDE_46,
        "Anthropic, migrating to Claude 4.6: prefilled assistant turns are refused",
        prefill=False,
    ),
    *(_rule(_CLAUDE, models, source, most=most) for models, source, most in OUTPUTS),
    _rule(
        _CLAUDE,
        r"claude-(?:3|v2|instant|opus-4[-.]1|(?:opus|sonnet)-4-2)",
        "Anthropic, Structured outputs: Claude 4.5 on",
        schema=False,
    ),
    _rule("bedrock", r"nova-(?:micro|lite|pro)", "AWS, Amazon Nova user guide: 10,000 tokens", most=10_000),
    _rule("bedrock", r"nova", "AWS, Amazon Nova user guide: no effort", hints=_NO_EFFORT),
    # OpenAI's, whoever serves them.
    _rule(
        "openai",
        _GPT_REASONING,
        "OpenAI, Reasoning: unsupported parameters; QwenLM/qwen-code#921",
        hints={**_NO_SAMPLING, **_NO_PENALTIES},
    ),
    _rule(
        "openai",
        _GPT_REASONING_BY_EFFORT,
        "OpenAI, latest model: sampling with effort none alone; johny-b/llmcomp#69, TypeWhisper/typewhisper-mac#311",
        hints={**_NO_SAMPLING, **_NO_PENALTIES},
        unless="none",
    ),
    _rule(
        "openai",
        r"(?:^|/)o[134](?:-|$)",
        "OpenAI: parallel tool calls are not supported with o-series models",
        hints={"parallel_tool_calls": (), "verbosity": ("medium",)},
        efforts=("low", "medium", "high"),
        most=100_000,
    ),
    _rule(
        "openai",
        r"(?:^|/)gpt-5(?:-(?:mini|nano))?(?:-\d|$)",
        "OpenAI, GPT-5: minimal is its least effort",
        efforts=("minimal", "low", "medium", "high"),
        most=128_000,
    ),
    _rule("openai", r"(?:^|/)gpt-5\.\d", "OpenAI, models", most=128_000),
    _rule(
        "openai",
        _GPT_PLAIN,
        "OpenAI: unrecognized request argument reasoning_effort; verbosity is GPT-5's",
        hints={**_NO_EFFORT, "verbosity": ("medium",)},
    ),
    _rule("openai", r"(?:^|/)gpt-4\.1", "OpenAI, models", most=32_768),
    _rule("openai", r"(?:^|/)gpt-4o", "OpenAI, models", most=16_384),
    _rule("openai", r"(?:^|/)gpt-(?:4-turbo|3\.5)", "OpenAI, models", most=4096),
    # Gemini's own API.
    _rule(
        "google",
        r"gemini-(?:2\.5|[3-9])",
        "BerriAI/litellm#9345; Google, Gemini 3.5 Flash-Lite: custom penalties are an error",
        hints=_NO_PENALTIES,
        most=65_536,
    ),
    _rule(
        "google", r"gemini-(?:1|2\.0)|gemma", "Google, Gemini thinking: models from 2.5 on", hints=_NO_EFFORT, most=8192
    ),
    _rule(
        "google",
        r"gemini-[12]",
        "Google: function calling with a response mime type of JSON is unsupported before Gemini 3",
        json_with_tools=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Adapted:
    """A request as a model takes it, the hints that were left out, and demands that the model can't heed."""

    body: JsonObject
    dropped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The rules of one model. `fields` are those that they look at: a request without them is not touched."""

    fields: frozenset[str]
    prefill: bool  # whether the assistant may have the last word
    steps: tuple[Callable[["_Adapting"], None], ...]

    def touch(self, body: JsonObject) -> bool:
        """Return whether a request may have anything that they refuse."""
        if not self.fields.isdisjoint(body):
            return True
        return not self.prefill and body["messages"][-1]["role"] == "assistant"


@lru_cache(maxsize=4096)
def rules_of(kind: str, model: str) -> ModelRules | None:
    """Return the rules of one model; None if there are none. `model` is the id that its provider gives it."""
    name = model.lower()
    found = tuple(rule for rule in RULES if KINDS[kind].in_configuration in rule.kinds and rule.models.search(name))
    return model_rules(found) if found else None


@lru_cache(maxsize=4096)
def highest_output(kind: str, model: str) -> int | None:
    """Return the highest number of tokens that a model answers with; None if it is not known."""
    name, family = model.lower(), KINDS[kind].in_configuration
    return min(
        (r.most for r in RULES if family in r.kinds and r.most and r.models.search(name)),
        default=None,
    )


def model_rules(rules: tuple[ModelRule, ...]) -> ModelRules:
    """Return these rules as one, with the steps that they need."""
    needed = [(rule, step, names) for rule in rules for fields_of, step in _STEPS if (names := tuple(fields_of(rule)))]
    steps = [partial(step, rule) for rule, step, _ in needed]
    steps += [partial(_prefill, rule) for rule in rules if not rule.prefill]
    fields = frozenset(name for _, _, names in needed for name in names)
    return ModelRules(fields, all(rule.prefill for rule in rules), tuple(steps))


def adapt(rules: ModelRules, body: JsonObject) -> Adapted:
    """Return the request without what these rules refuse. A request that they do not touch is returned as it is."""
    work = _Adapting(body)
    for step in rules.steps:
        step(work)
    changed = body if work.body is None else work.body
    return Adapted(changed, tuple(dict.fromkeys(work.dropped)), tuple(work.missing))


class _Adapting:
    """The request so far. The client's own is never changed: other targets get it too."""

    def __init__(self, given: JsonObject):
        self._given = given
        self.body: JsonDict | None = None
        self.dropped: list[str] = []
        self.missing: list[str] = []

    @property
    def now(self) -> JsonObject:
        return self._given if self.body is None else self.body

    def set(self, name: str, value: JsonValue) -> None:
        self.body = {**self.now, name: value}

    def drop(self, name: str) -> None:
        self.body = {k: v for k, v in self.now.items() if k != name}
        self.dropped.append(name)


def _hints(rule: ModelRule, work: _Adapting) -> None:
    for name, taken in rule.hints.items():
        value = work.now.get(name)
        if value is not None and value not in taken and not _is_unless(rule, work.now):
            work.drop(name)


def _is_unless(rule: ModelRule, body: JsonObject) -> bool:
    if rule.thinking and not _is_to_think(body):
        return True
    return rule.unless is not None and body.get("reasoning_effort") == rule.unless


def _is_to_think(body: JsonObject) -> bool:
    """Return whether a request asks for thoughts, and may have them: not where a tool must be called."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        choice = allowed.get("mode") if isinstance(allowed, dict) else "required"
    return choice != "required" and body.get("reasoning_effort") not in (None, "none")


def _either(rule: ModelRule, work: _Adapting) -> None:
    for first, second in rule.either:
        if work.now.get(first) is not None and work.now.get(second) is not None:
            work.drop(second)


_LIMITS = ("max_tokens", "max_completion_tokens")


def _most(rule: ModelRule, work: _Adapting) -> None:
    assert rule.most is not None
    for name in _LIMITS:
        value = work.now.get(name)
        if isinstance(value, int) and value > rule.most:
            work.set(name, rule.most)
            work.dropped.append(name)


_ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _efforts(rule: ModelRule, work: _Adapting) -> None:
    effort = work.now.get("reasoning_effort")
    if effort not in _ORDER or effort in rule.efforts:
        return
    wanted = _ORDER.index(effort)
    work.set("reasoning_effort", min(rule.efforts, key=lambda known: abs(_ORDER.index(known) - wanted)))


def _stops(rule: ModelRule, work: _Adapting) -> None:
    stop = work.now.get("stop")
    if not stop:
        return
    given = [stop] if isinstance(stop, str) else stop
    kept = [one for one in given if not isinstance(one, str) or one.strip()]
    if len(kept) < len(given):
        work.drop("stop")
        if kept:
            work.set("stop", kept)


def _prefill(_: ModelRule, work: _Adapting) -> None:
    if (last := work.now["messages"][-1])["role"] == "assistant" and not last.get("tool_calls"):
        work.missing.append(f"messages.{len(work.now['messages']) - 1}")


def _json(rule: ModelRule, work: _Adapting) -> None:
    wanted = work.now.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("json_object", "json_schema"):
        return
    lacks_both = not rule.json_with_tools and work.now.get("tools") and work.now.get("tool_choice") != "none"
    if lacks_both or (kind == "json_schema" and not rule.schema):
        work.missing.append("response_format")


# Each step with the fields of a request that it looks at for a rule. Where there are none the rule has no such step.
_STEPS: tuple[tuple[Callable[[ModelRule], Iterable[str]], Callable[[ModelRule, _Adapting], None]], ...] = (
    (lambda rule: rule.hints, _hints),
    (lambda rule: (second for _, second in rule.either), _either),
    (lambda rule: () if rule.most is None else _LIMITS, _most),
    (lambda rule: ("reasoning_effort",) if rule.efforts else (), _efforts),
    (lambda rule: () if rule.blank_stops else ("stop",), _stops),
    (lambda rule: () if rule.json_with_tools and rule.schema else ("response_format",), _json),
)

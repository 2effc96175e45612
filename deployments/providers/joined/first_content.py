"""How long a whole answer's first content may take, where the answer comes as a stream. Pure.

A stream that says nothing for `first_token` seconds hangs, and the next target is asked. But a model that thinks says
nothing while it does, and as a whole call its answer would have come within `timeout_seconds`. So a request that makes
a model think may take as long as that, and so may any request for a model whose first content took more than half of
`first_token` lately.

A model may think that we know nothing of. After a call that was ended by `first_token`, one call at a time may take
all of `timeout_seconds`: if it answers, the model is known to be slow. If it does not, the model hangs, and a minute
has no such call.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from deployments.errors import AttemptFailed
from deployments.newest import Newest
from deployments.openai_api.json_types import JsonObject
from deployments.providers.base import Call

FADING = 0.98  # a slow answer is forgotten within some hundred others
_MODELS = 1000  # a client may name any model of a provider
_DOUBTLESS_SECONDS = 60.0

# Models that think unless they are told not to. Claude, Nova and others think where a request says so.
_THINKS = re.compile(
    r"(?:^|[/.:])(?:o[134](?:-|$)|gpt-5(?!.*chat))|gpt-oss|deepseek-(?:r|reasoner)|gemini-(?:2[.-]5|[3-9])|magistral"
    r"|qwq|qwen3|thinking|reason|kimi-k2|minimax-m|glm-(?:4[.-][5-9]|[5-9])|grok-(?:3-mini|4)|nova-2|deep-research"
)
_QUIET = ("none", "minimal")


@dataclass(slots=True)
class _Model:
    slowest: float = 0.0  # of its recent answers, in seconds
    doubted: bool = False  # whether a call was ended that might have gone on
    tried: bool = False  # whether a call is under way that may take longer, to find out
    sure_until: float = 0.0


class Wait:
    """The wait of one call: at most `seconds`. What the call says of its model is learned at the end."""

    __slots__ = ("_began", "_contents", "_model", "_slow", "_trial", "heard_after", "seconds")

    def __init__(self, contents: "FirstContents", model: _Model, seconds: float, *, slow: bool, trial: bool):
        self.seconds = seconds
        self.heard_after: float | None = None
        self._contents, self._model = contents, model
        self._slow, self._trial = slow, trial  # whether it may take longer than others, and whether to find out
        self._began = time.monotonic()

    def hear(self) -> None:
        if self.heard_after is None:
            self.heard_after = time.monotonic() - self._began

    def __enter__(self) -> "Wait":
        self._model.tried = self._model.tried or self._trial
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        model = self._model
        if isinstance(error, AttemptFailed) and error.outcome.kind == "first_token":
            self._contents.missed(model, trial=self._slow)
        if self._trial:
            model.tried = False
        if self.heard_after is not None:
            model.slowest = max(self.heard_after, FADING * model.slowest)
            model.doubted = False


class FirstContents:
    """What one replica knows of its models. `now` is in seconds, monotonic."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._models = Newest[tuple[str, str], _Model](_MODELS)

    def waiting(self, call: Call) -> Wait:
        """Return how long a call may wait, for a `with` around it."""
        key = call.place, call.model
        model = self._models[key] = self._models.get(key) or _Model()
        limits = call.limits
        trial = model.doubted and not model.tried
        slow = trial or thinks(call) or model.slowest > limits.first_token / 2
        return Wait(self, model, limits.total if slow else limits.first_token, slow=slow, trial=trial)

    def missed(self, model: _Model, *, trial: bool) -> None:
        """Note that a call had no content within its limit. `trial`: it was one that might take longer."""
        if trial:
            model.doubted, model.sure_until = False, self._now() + _DOUBTLESS_SECONDS
        elif self._now() >= model.sure_until:
            model.doubted = True


def thinks(call: Call) -> bool:
    """Return whether the model may think before it says anything, by the request's words or by its own way."""
    effort = _effort(call.body)
    if effort is not None:
        return effort not in _QUIET
    return _THINKS.search(call.model.lower()) is not None


def _effort(body: JsonObject) -> str | None:
    """Return how much a request wants to be thought, in one of the words of the vendors; None if it does not say."""
    effort = body.get("reasoning_effort")
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    if effort is None and isinstance(reasoning, dict):
        effort = reasoning.get("effort")
    if effort is None and isinstance(thinking, dict):
        effort = "none" if thinking.get("type") == "disabled" else "some"
    return None if effort is None else str(effort)

"""What a request may use at most: the tokens and the cost that are held for it while it is under way. Pure.

It is the request's prompt and the longest answer that it allows, at the dearest of the targets that it may reach:
failover decides later which one answers. What attempts that failed have used counts beside it, as soon as it is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.openai_api.chat import max_tokens_of
from deployments.usage.prompt_estimate import estimate_prompt
from deployments.usage.rates import Rates, most_at

_TEXT = (str, type(None))
LARGEST_OUTPUT = 2_000_000  # no model writes more, whatever a request allows


@dataclass(frozen=True, slots=True)
class Route:
    """One target that a request may reach.

    `rates` are None where it costs nothing that we know of. `most` is the highest number of tokens that it answers
    with, and `window` its context window, where they are known. `tier` serves a request that names none.
    """

    model: str
    rates: Rates | None = None
    most: int | None = None
    window: int | None = None
    tier: str | None = None


def worst_case(body: Mapping[str, Any], routes: Iterable[Route], output_tokens: int) -> tuple[int, int]:
    """Return tokens and nano-dollars. `output_tokens` is what an answer may have whose request sets no limit."""
    longest, answers = _output(body, output_tokens)
    tokens = cost = whole = 0
    tier = tier if isinstance(tier := body.get("service_tier"), str) and tier != "auto" else None
    alike = _is_text(body.get("messages") or ())
    for route in routes:
        if not alike or not whole:  # what a text has in tokens is the same for all, and images are each vendor's own
            whole = estimate_prompt(body, route.model)
        prompt = whole if route.window is None or whole < route.window else route.window
        written = answers * (longest if route.most is None or longest < route.most else route.most)
        if prompt + written > tokens:
            tokens = prompt + written
        if route.rates is not None:
            cost = max(cost, most_at(route.rates, prompt, written, tier or route.tier))
    return tokens, cost


def _is_text(messages: Iterable[Mapping[str, Any]]) -> bool:
    for message in messages:  # noqa: SIM110  a generator would cost as much again
        if type(message.get("content")) not in _TEXT:
            return False
    return True


def _output(body: Mapping[str, Any], output_tokens: int) -> tuple[int, int]:
    """Return the longest answer that a request allows in tokens, and how many answers it wants."""
    if "messages" not in body:
        return 0, 1  # vectors have no tokens
    allowed, answers = max_tokens_of(body) or output_tokens, body.get("n") or 1
    return min(allowed, LARGEST_OUTPUT), answers

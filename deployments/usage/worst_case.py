"""What a request may use at most: the tokens and the cost that are held for it while it is under way. Pure.

It is the request's prompt and the longest answer that it allows, at the dearest of the targets that it may reach:
failover decides later which one answers. What attempts that failed have used counts beside it, as soon as it is known.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from deployments.openai_api.chat import max_tokens_of
from deployments.openai_api.embeddings import length_of_input
from deployments.usage.prices import Rates, cost_at
from deployments.usage.token_estimate import length_of

CHARACTERS_PER_TOKEN = 4
LARGEST_OUTPUT = 2_000_000  # no model writes more, whatever a request allows

Route = tuple[Rates | None, int | None]  # a target's rates, and the most tokens that it answers with, where known


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return about how many tokens the prompt has."""
    characters = length_of(body.get("messages") or ()) or length_of_input(body.get("input"))
    return -(-characters // CHARACTERS_PER_TOKEN)


def worst_case(body: Mapping[str, Any], routes: Iterable[Route], output_tokens: int) -> tuple[int, int]:
    """Return tokens and nano-dollars. `output_tokens` is what an answer may have whose request sets no limit."""
    prompt = prompt_tokens(body)
    longest, answers = _output(body, output_tokens)
    tokens, cost = prompt, 0
    for rates, most in routes:
        written = answers * (longest if most is None or longest < most else most)
        tokens = max(tokens, prompt + written)
        if rates is not None:
            cost = max(cost, cost_at(rates, prompt, written))
    return tokens, cost


def _output(body: Mapping[str, Any], output_tokens: int) -> tuple[int, int]:
    """Return the longest answer that a request allows in tokens, and how many answers it wants."""
    if "messages" not in body:
        return 0, 1  # vectors have no tokens
    allowed, answers = max_tokens_of(body) or output_tokens, body.get("n") or 1
    return min(allowed, LARGEST_OUTPUT), answers

"""Where a request to Anthropic says what may be kept of its prompt: in marks on the blocks that end it. Pure.

A mark stands on a tool, a text, an image, a document, a call or a result, and never on thoughts (Anthropic, Prompt
caching: what can be cached).
"""

from collections.abc import Sequence

from deployments.openai_api.cache_marks import lifetime_in, settle
from deployments.openai_api.found import MARK
from deployments.openai_api.json_types import JsonDict
from deployments.providers.kinds import ANTHROPIC_PLACES
from deployments.providers.translation.conversation import CachePoint

_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


def add_mark(blocks: Sequence[JsonDict], point: CachePoint | None) -> None:
    """Mark the last of the blocks so far, if that can be."""
    if point is None or not blocks or MARK in blocks[-1] or blocks[-1].get("type") in _THOUGHTS:
        return
    lifetime = lifetime_in(point.mark, ANTHROPIC_PLACES)
    blocks[-1][MARK] = {"type": "ephemeral", **({"ttl": lifetime} if lifetime else {})}


def keep_marks(lists: Sequence[Sequence[JsonDict]]) -> None:
    """Leave out the marks that are more than a request may have, and lifetimes that rise.

    `lists` are all that can have some, in wire order.
    """
    marked = [block for blocks in lists for block in blocks if MARK in block]
    kept = settle([block[MARK] for block in marked])
    for block in marked:
        if id(block[MARK]) not in kept:
            del block[MARK]

"""Where a request to Converse says what may be kept of its prompt: in `cachePoint` blocks behind what they cover. Pure.

A point stands in the list of tools, of the system prompt or of a turn (AWS, Prompt caching for faster model inference).
It can't be the first of its list, nor follow another, and a result of a tool can't hold one.
"""

from collections.abc import Sequence

from deployments.openai_api.cache_marks import CachePlaces, lifetime_in, settle
from deployments.openai_api.json_types import JsonDict
from deployments.providers.translation.conversation import CachePoint

POINT = "cachePoint"


def add_point(blocks: list[JsonDict], point: CachePoint | None, places: CachePlaces | None) -> None:
    """Add a point behind the blocks so far, if the model takes one there."""
    if point is None or places is None or not blocks or POINT in blocks[-1]:
        return
    last = blocks[-1]
    if "text" in last or (places.tools if "toolSpec" in last else places.any_part):
        lifetime = lifetime_in(point.mark, places)
        blocks.append({POINT: {"type": "default", **({"ttl": lifetime} if lifetime else {})}})


def keep_points(lists: Sequence[list[JsonDict]]) -> None:
    """Leave out the points that are more than a request may have, and lifetimes that rise.

    `lists` are all that can have some, in wire order.
    """
    points = [block[POINT] for blocks in lists for block in blocks if POINT in block]
    if not points:
        return
    kept = settle(points)
    if len(kept) < len(points):
        for blocks in lists:
            blocks[:] = [block for block in blocks if POINT not in block or id(block[POINT]) in kept]

"""Items of an answer that a chat completion has no words for, kept for the next turn. Pure.

OpenAI's reasoning is encrypted, and its server wants it back with the calls that it led to; what hosted tools have done
is a part of the conversation too. Such items travel with the message, as its `extra_content`:

    {"openai": {"items": [{"index": 0, "calls": 0, "said": false, "item": {"type": "reasoning", ...}}]}}

`calls` is how many calls came before the item, and `said` whether a text did. So each item finds its place again among
the message's own text and calls, which are the client's: it may have changed them. `index` is where SDKs that add the
deltas of a stream up put an entry.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

PROVIDER, ITEMS = "openai", "items"  # the names in `extra_content`


def kept_item(index: int, calls: int, item: JsonObject, *, said: bool) -> JsonDict:
    """Return the `extra_content` that holds one item."""
    return {PROVIDER: {ITEMS: [{"index": index, "calls": calls, "said": said, "item": item}]}}


class _Kept(NamedTuple):
    place: int
    calls: int
    said: bool
    item: JsonDict


def placed(message: JsonObject, said: Sequence[JsonDict], calls: Sequence[JsonDict]) -> list[JsonDict]:
    """Return the items of one earlier answer: those that were kept among its text and its calls."""
    texts, left, items = list(said), list(calls), list[JsonDict]()
    for kept in sorted(_kept(message.get("extra_content")), key=lambda one: one.place):
        if kept.said:
            items, texts = items + texts, []
        ahead = max(0, kept.calls - (len(calls) - len(left)))
        items, left = [*items, *left[:ahead], kept.item], left[ahead:]
    return _without_loose_reasoning([*items, *texts, *left])


def kept_in(extra: JsonValue) -> list[JsonDict]:
    """Return the items that an earlier answer has left in its `extra_content`, in their order."""
    return [kept.item for kept in sorted(_kept(extra), key=lambda one: one.place)]


def _kept(extra: JsonValue) -> Iterator[_Kept]:
    """Yield what a client has sent back. It may send anything."""
    own = extra.get(PROVIDER) if isinstance(extra, dict) else None
    entries = own.get(ITEMS) if isinstance(own, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        item = entry.get("item") if isinstance(entry, dict) else None
        if isinstance(item, dict) and isinstance(item.get("type"), str) and item["type"] not in _NEVER_KEPT:
            index, calls = whole_number(entry.get("index")) or 0, whole_number(entry.get("calls")) or 0
            yield _Kept(index, calls, entry.get("said") is True, item)


_NEVER_KEPT = frozenset({"item_reference"})  # it would name what the provider's account has stored


def _without_loose_reasoning(items: list[JsonDict]) -> list[JsonDict]:
    """Leave out reasoning that nothing follows.

    OpenAI refuses "item of type 'reasoning' provided without its required following item" (continuedev/continue#8933).
    """
    while items and items[-1]["type"] == "reasoning":
        items.pop()
    return items

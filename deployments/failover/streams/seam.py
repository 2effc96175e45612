"""Where the frames of a second provider follow those of a first in one stream. Pure.

A client knows an answer by its id, adds up the role of each delta that has one, and counts the usage of the last chunk.
So behind the seam each frame has the first provider's id and second of creation, no role comes again, and the usage is
the sum of all that were asked. What the seam is, a chunk of its own says: its delta is empty, and its `breakwater`
names both providers.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.openai_api.chat import dump, frame, frames_to_chunks
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.openai.stream.content import choices_of

_ID = re.compile(rb'"id"\s*:\s*"[^"\\]*"')
_CREATED = re.compile(rb'"created"\s*:\s*\d+')


def marker(head: tuple[str, int], model: str, told: JsonObject) -> bytes:
    """Return the chunk that tells of the seam. `told` has the keys `from`, `to`, `method` and `why`."""
    choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}
    about = {"id": head[0], "object": "chat.completion.chunk", "created": head[1], "model": model}
    return frame({**about, "choices": [choice], "breakwater": {"continued": told}})


class SecondHead:
    """Gives the frames of the provider behind the seam the head of the one before it."""

    def __init__(self, head: tuple[str, int]):
        self._id, self._created = head
        self._swaps: tuple[tuple[bytes, bytes], ...] | None = None

    def first(self, frames: bytes) -> bytes:
        """Return the first frames, in which the provider may open its answer with a role: that is left out."""
        made = []
        for event in frames.split(b"\n\n"):
            if not event.startswith(b"data: {"):
                made += [event + b"\n\n"] if event else []
                continue
            [chunk] = frames_to_chunks(event + b"\n\n")
            if self._swaps is None:
                self._learn(event, chunk)
            if (rest := _without_role(chunk)) is None:
                continue
            made.append(event + b"\n\n" if rest is chunk else frame(rest))
        return self._swapped(b"".join(made))

    def rest(self, frames: bytes) -> bytes:
        """Return frames that follow. A quote in a text is escaped in JSON, so the swap can touch no text."""
        if b'"role"' in frames or self._swaps is None:
            return self.first(frames)  # some servers say it with every delta
        return self._swapped(frames)

    def _swapped(self, frames: bytes) -> bytes:
        for old, new in self._swaps or ():
            frames = frames.replace(old, new)
        return frames

    def _learn(self, event: bytes, chunk: JsonDict) -> None:
        swaps = list[tuple[bytes, bytes]]()
        given, made = _ID.search(event), chunk.get("id")
        if given is not None and isinstance(made, str) and made and made.encode() in given[0]:
            # The first frame may be one of ours, and those behind it the server's own, with blanks.
            ours = b'"id":' + dump(self._id)
            swaps += [(old, ours) for old in (given[0], b'"id":' + dump(made), b'"id": ' + dump(made))]
        if (created := _CREATED.search(event)) is not None and isinstance(stamp := chunk.get("created"), int):
            ours = b'"created":%d' % self._created
            swaps += [(old, ours) for old in (created[0], b'"created":%d' % stamp, b'"created": %d' % stamp)]
        self._swaps = tuple(dict.fromkeys(swaps))


def _without_role(chunk: JsonDict) -> JsonDict | None:
    """Return a chunk without roles; None if nothing is left of it."""
    choices = choices_of(chunk)
    if not any("role" in (choice.get("delta") or {}) for choice in choices):
        return chunk
    kept = [{**choice, "delta": _rest_of(choice.get("delta") or {})} for choice in choices]
    if not any(choice["delta"] or choice.get("finish_reason") for choice in kept) and not chunk.get("usage"):
        return None
    return {**chunk, "choices": kept}


def _rest_of(delta: Mapping[str, Any]) -> JsonDict:
    """Return a delta without its role and without what says nothing beside it."""
    return {name: value for name, value in delta.items() if name != "role" and value not in (None, "")}


def with_sum(tail: bytes, usages: Sequence[JsonObject], told: Sequence[JsonObject]) -> bytes:
    """Return the last frames of a stream with the usage of all its providers.

    `usages` are OpenAI's, of the providers before the last; `told` has an entry for each provider.
    """
    made = []
    for event in tail.split(b"\n\n"):
        if event.startswith(b"data: {") and (chunk := frames_to_chunks(event + b"\n\n")[0]).get("usage"):
            total = chunk["usage"]
            for usage in usages:
                total = added(total, usage)
            made.append(frame({**chunk, "usage": total, "breakwater": {"usage": list(told)}}))
        elif event:
            made.append(event + b"\n\n")
    return b"".join(made)


def added(one: JsonObject, other: JsonObject) -> JsonDict:
    """Return the sum of two usages. Counts are added, also inside details; of anything else the first one's stands."""
    total: JsonDict = dict(one)
    for name, value in other.items():
        had = total.get(name)
        if isinstance(value, dict):
            total[name] = added(had if isinstance(had, dict) else {}, value)
        elif type(value) is int:
            total[name] = (had if type(had) is int else 0) + value
        elif had is None:
            total[name] = value
    return total

"""Which streams go on: evidence of a target's health before any of them has ended. Pure.

A stream that ends is reported when it ends, and one that flows for an hour would be no evidence for an hour, while
each that breaks counts at once. So every few seconds an ingress says how many streams of each target have spoken
since it last said so, and since when the oldest of them has flowed.
"""

from dataclasses import dataclass
from typing import Protocol

from actors.breaker.messages import Permit, is_exclusive
from actors.breaker.plan import Target

FLOW_SECONDS = 2.0  # between two such reports

FlowKey = tuple[Target, int, int]  # the epoch and the incarnation that the streams began under


class Flowing(Protocol):
    """A stream: `permit` is what it began under, `began` and `content_at` are seconds on the client's clock."""

    target: Target
    permit: Permit
    began: float
    content_at: float


@dataclass(slots=True)
class Flow:
    """Streams of one target, under one permit's epoch."""

    permit: Permit
    oldest: float
    count: int = 1


class FlowingStreams:
    """The streams that one ingress replica carries now."""

    def __init__(self) -> None:
        self._streams: dict[Flowing, None] = {}
        self._since: float | None = None

    def add(self, stream: Flowing) -> None:
        self._streams[stream] = None

    def remove(self, stream: Flowing) -> None:
        self._streams.pop(stream, None)

    def take(self, now: float) -> tuple[dict[FlowKey, Flow], float]:
        """Return what has flowed since the last time, by target and epoch, and how many seconds ago that was."""
        since, self._since = self._since, now
        found: dict[FlowKey, Flow] = {}
        if since is None:
            return found, 0.0
        for stream in self._streams:
            if stream.content_at <= since or stream.began >= since or is_exclusive(stream.permit):
                continue  # silent, too young to say anything, or a probe, which reports for itself
            key = (stream.target, stream.permit["epoch"], stream.permit["incarnation"])
            if (flow := found.get(key)) is None:
                found[key] = Flow(stream.permit, stream.began)
            else:
                flow.count += 1
                flow.oldest = min(flow.oldest, stream.began)
        return found, now - since

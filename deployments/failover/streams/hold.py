"""Frames that are held back until what they make is whole: calls of tools, or a text that is JSON. Pure.

Half a call is of no use to a client, and a dangerous thing to act on. As long as nothing of it was sent, the next
provider can begin anew if the stream breaks. What it costs is time: the client gets a call, or the whole JSON, at once.
"""

import re
from typing import Literal

from deployments.openai_api.json_types import JsonObject

Holds = Literal["all", "calls"] | None

# Some servers send empty ones with every delta.
_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{')

SIGN = b": held back until it is whole\n\n"  # a comment, which no client reads: a proxy must not take us for silent
SIGN_SECONDS = 10.0


def holds_of(body: JsonObject, *, tools: bool, json: bool) -> Holds:
    """Return what of a request's answer is held back, where its row holds calls of `tools`, and answers in `json`."""
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if json and kind in ("json_object", "json_schema"):
        return "all"
    return "calls" if tools and (body.get("tools") or body.get("functions")) else None


class Hold:
    """What is held back of one stream."""

    def __init__(self, holds: Literal["all", "calls"]):
        self._all = holds == "all"
        self._frames: list[bytes] = []

    def take(self, frames: bytes) -> bytes:
        """Return the frames if they may go to the client; else keep them, and return nothing."""
        if self._frames or self._all or _CALLS.search(frames):
            self._frames.append(frames)
            return b""
        return frames

    def release(self) -> bytes:
        """Return all that was held back: it is whole."""
        frames, self._frames = self._frames, []
        return b"".join(frames)

    def drop(self) -> None:
        """Forget what was held back: nothing will follow it."""
        self._frames = []

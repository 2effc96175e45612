"""What a replica tells of a call under way: a stream's usage so far, and that pieces of a whole answer come. Pure.

Some vendors tell their usage with each chunk, and pieces may come a thousand times a second: both are told seldom.
"""

import asyncio
import time
from collections.abc import Callable

from deployments.openai_api.json_types import JsonObject
from deployments.rpc.port import PIECE_SECONDS, PieceMessage, UsageMessage

FIRST_SECONDS = 0.02  # after the first piece of a whole answer
USAGE_SECONDS = 1.0  # between two messages of a stream's usage so far


class UsageSoFar:
    """The usage that a provider tells in mid-stream. What a client used who leaves is known then."""

    def __init__(self, heard: bool):
        self.told: JsonObject | None = None
        self._heard = heard
        self._passed_at = float("-inf")

    def take(self, told: JsonObject) -> UsageMessage | None:
        """Return the message that is due, if any."""
        news, self.told = told != self.told, told
        if not (self._heard and news and (now := time.monotonic()) - self._passed_at >= USAGE_SECONDS):
            return None
        self._passed_at = now
        return {"told": told}


class Pieces:
    """Called for each piece of a whole answer: tells that they come, and from time to time that more have come.

    The first time is a moment late: an answer that is whole by then needs no such message. `close` it then.
    """

    def __init__(self, tell: Callable[[PieceMessage], None]):
        self._tell, self._told, self._at = tell, 0, 0.0
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        if self._first is None:
            self._first = self._loop.call_later(FIRST_SECONDS, self._tell_of_them)
        elif self._told and self._loop.time() - self._at >= PIECE_SECONDS:
            self._tell_of_them()

    def close(self) -> None:
        if self._first is not None:
            self._first.cancel()

    def _tell_of_them(self) -> None:
        self._at = self._loop.time()
        self._told += 1
        self._tell({"pieces": self._told})

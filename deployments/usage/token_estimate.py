"""How much of an answer was delivered, and how many tokens that is. Pure.

A stream that is cut short brings no token counts from the provider. Tokens are then estimated from the frames
and the text that were delivered, at the rate that whole answers of the same target have shown lately,
by whichever of the two has been nearer to the truth. Before there is any, a token is four characters.

The error, for one stream: some percent where a provider sends a token a frame, 10 to 20 % where it
bundles them (text of one sort varies that much), up to a factor of three for the first answers of a
target that writes code or Chinese. Sums err less. Reasoning that is not delivered is not counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.openai_api.chat import text_of

# Two runs a step and not one character: what the engine must remember of a step is a hundred bytes.
_TEXT = re.compile(rb'"(?:content|refusal|reasoning_content|arguments)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')
_KEPT = 0.9  # of what was known, with each whole answer


@dataclass(slots=True)
class DeliveredText:
    """Counts what passes; nothing is parsed until somebody asks."""

    frames: int = 0
    size: int = 0
    first: bytes = b""

    def add(self, data: bytes) -> None:
        if not self.first:
            self.first = data
        self.frames += data.count(b"\n\n")
        self.size += len(data)

    def text(self) -> int:
        """Return about how many bytes of it are text: what the frames hold beside it is the same in each."""
        frames = max(1, self.first.count(b"\n\n"))
        around = (len(self.first) - text_in(self.first)) / frames
        return max(0, round(self.size - self.frames * around))


def text_in(data: bytes) -> int:
    """Return how many bytes of text there are in frames or in a whole body."""
    return sum(len(match) for match in _TEXT.findall(data))


def length_of(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(text_of(message.get("content"))) for message in messages)


@dataclass(slots=True)
class CharsPerToken:
    """Tokens for a unit, as lately seen, and how far that has been from the truth."""

    tokens: float
    units: float
    error: float

    def of(self, units: float) -> float:
        return self.tokens / self.units * units

    def learn(self, units: float, tokens: int) -> None:
        if units <= 0 or tokens <= 0:
            return
        off = min(1.0, abs(self.of(units) - tokens) / tokens)
        self.error = _KEPT * self.error + (1 - _KEPT) * off
        self.tokens = _KEPT * self.tokens + tokens
        self.units = _KEPT * self.units + units


@dataclass(slots=True)
class TokenEstimator:
    """What one target's tokens look like."""

    by_frame: CharsPerToken = field(default_factory=lambda: CharsPerToken(5, 5, 0.4))
    by_text: CharsPerToken = field(default_factory=lambda: CharsPerToken(5, 20, 0.3))
    of_prompt: CharsPerToken = field(default_factory=lambda: CharsPerToken(5, 20, 0.3))

    def learn(self, delivered: DeliveredText, tokens: int) -> None:
        """Take what a whole stream had: so many tokens."""
        self.by_frame.learn(delivered.frames, tokens)
        self.by_text.learn(delivered.text(), tokens)

    def tokens(self, delivered: DeliveredText) -> int:
        if delivered.frames == 0:
            return 0
        if self.by_frame.error < self.by_text.error:
            return max(1, round(self.by_frame.of(delivered.frames)))
        return max(1, round(self.by_text.of(delivered.text())))

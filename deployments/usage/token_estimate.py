"""How much of an answer was delivered, and how many tokens that is. Pure.

A stream that is cut short brings no token counts from the provider. Tokens are then estimated from the frames
and the text that were delivered, by whichever of the two has been nearer to the truth. A token is four characters
or a frame, corrected by what the same caller's whole answers of the same target had: at most by a factor of
FURTHEST, and by the median, because hidden tokens of one answer once made 54,397 tokens of another's 50 frames.

The error, for one stream: some percent where a provider sends a token a frame, 10 to 20 % where it
bundles them (text of one sort varies that much), up to a factor of three for answers in code or
Chinese. Sums err less. Reasoning that is not delivered is not counted.
"""

import re
from collections import deque
from dataclasses import dataclass, field

from msgspec import Struct

from deployments.openai_api.chat import NATIVE_FRAME

# Two runs a step and not one character: what the engine must remember of a step is a hundred bytes.
_NAMES = rb"content|refusal|reasoning_content|arguments|delta|text|thinking|partial_json"
_TEXT = re.compile(rb'"(?:' + _NAMES + rb')"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')
_DELTA = re.compile(rb"event: (?:\S+\.|content_block_)delta\n")
_LONGEST_NAME = 80  # of an event, with the name of its line
_KEPT = 0.9  # of the known error, with each whole answer
_ANSWERS = 15  # whose median corrects
_ENOUGH = 64  # bytes of text: in a shorter answer what stands around the text weighs as much
_SURE = 0.1  # an error of frames below which a provider sends a token a frame
FURTHEST = 2.0  # the most that answers correct an estimate, up or down


class DeliveredText(Struct):
    """Counts what passes; nothing is parsed until somebody asks."""

    frames: int = 0
    size: int = 0
    first: bytes = b""
    second: bytes = b""

    def add(self, data: bytes) -> None:
        if data.startswith(NATIVE_FRAME):
            data = _deltas_in(data)
        if not self.first:
            self.first = data
        elif not self.second:
            self.second = data
        self.frames += data.count(b"\n\n")
        self.size += len(data)

    def text(self) -> int:
        """Return about how many bytes of it are text: what the frames hold beside it is the same in each later one.

        The first ones also say who speaks. Taken for the others, they leave nothing of a stream of short words.
        """
        begun = text_in(self.first)
        later = self.frames - self.first.count(b"\n\n")
        frames = max(1, self.second.count(b"\n\n"))
        around = (len(self.second) - text_in(self.second)) / frames
        return max(begun, round(begun + self.size - len(self.first) - later * around))


def _deltas_in(data: bytes) -> bytes:
    """Return the frames with pieces of texts: others repeat what those said, and the request."""
    return b"".join(event + b"\n\n" for event in data.split(b"\n\n") if _DELTA.match(event, 0, _LONGEST_NAME))


def text_in(data: bytes) -> int:
    """Return how many bytes of text there are in frames or in a whole body."""
    return sum(len(match) for match in _TEXT.findall(data))


@dataclass(slots=True)
class TokenRate:
    """Tokens for a unit: `usual`, corrected by the median of a caller's own last answers, and bounded.

    Two votes for no correction stand beside them, so no single answer moves it.
    """

    usual: float
    error: float
    correction: float = 1.0
    seen: deque[float] = field(default_factory=lambda: deque(maxlen=_ANSWERS))

    def of(self, units: float) -> float:
        return self.usual * self.correction * units

    def learn(self, units: float, tokens: int) -> None:
        off = min(1.0, abs(self.of(units) - tokens) / tokens)
        self.error = _KEPT * self.error + (1 - _KEPT) * off
        self.seen.append(min(FURTHEST, max(1 / FURTHEST, tokens / (self.usual * units))))
        votes = sorted((*self.seen, 1.0, 1.0))
        self.correction = votes[len(votes) // 2]


@dataclass(slots=True)
class TokenEstimator:
    """What the tokens of one target's answers to one caller look like."""

    by_frame: TokenRate = field(default_factory=lambda: TokenRate(1.0, 0.4))
    by_text: TokenRate = field(default_factory=lambda: TokenRate(0.25, 0.3))

    def learn(self, delivered: DeliveredText, tokens: int) -> None:
        """Take what a whole stream had: so many tokens. A short one, or one without text, teaches nothing."""
        text = delivered.text()
        if text >= _ENOUGH and tokens > 0:
            self.by_frame.learn(delivered.frames, tokens)
            self.by_text.learn(text, tokens)

    def tokens(self, delivered: DeliveredText) -> int:
        if delivered.frames == 0:
            return 0
        # Where a frame is a token, it is one in each part of an answer; words are longer in one part than in another.
        if self.by_frame.error < max(self.by_text.error, _SURE):
            return max(1, round(self.by_frame.of(delivered.frames)))
        return max(1, round(self.by_text.of(delivered.text())))

"""What is asked of every system, and how hard. Pure data.

What the upstream shall do stands in the request's own text, because that is what every gateway carries there.
"""

import json
import re
from dataclasses import dataclass

WORD = " word"
WORDS = 20  # of an answer that is not streamed
MODEL = "default"
_WANTED = re.compile(rb"bench delay=(\d+) frames=(\d+) pace=(\d+)")


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request. Times in milliseconds; `frames` of content make it a stream, 0 does not."""

    name: str
    delay: int = 0
    frames: int = 0
    pace: int = 0  # between two frames; 0: as fast as they come, each in a write of its own

    def body(self) -> bytes:
        text = f"bench delay={self.delay} frames={self.frames} pace={self.pace}"
        messages = [
            {"role": "system", "content": "You are a helpful assistant. " * 8},
            {"role": "user", "content": text},
        ]
        return json.dumps({"model": MODEL, "messages": messages, "stream": bool(self.frames)}).encode()

    @property
    def lasts(self) -> float:
        """Seconds that the upstream takes for it."""
        return (self.delay + self.frames * self.pace) / 1000

    @property
    def words(self) -> int:
        """How many words a whole answer has."""
        return self.frames or WORDS


def wanted(body: bytes) -> tuple[int, int, int]:
    """Delay, frames and pace, as `Ask.body` says them."""
    found = _WANTED.search(body)
    if found is None:
        return 0, 0, 0
    delay, frames, pace = found.groups()
    return int(delay), int(frames), int(pace)


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of request at one load: connections that ask again when they are answered, or a rate a second.

    Connections begin at once, or `apart`: one after another while one of their answers takes. At once, streams of one
    length go on in step, their frames come together, and each waits for all others to begin.
    """

    ask: Ask
    connections: int = 0
    rate: int = 0
    apart: bool = False
    without: frozenset[str] = frozenset()  # systems that can't carry it

    @property
    def load(self) -> str:
        return f"{self.rate}/s" if self.rate else f"c{self.connections}{' apart' if self.apart else ''}"

    @property
    def spread(self) -> float:
        """Seconds over which the connections begin."""
        return self.ask.lasts if self.apart else 0.0

    @property
    def name(self) -> str:
        return f"{self.ask.name} {self.load}"


WHOLE = Ask("whole 0 ms")
WHOLE_50 = Ask("whole 50 ms", delay=50)
PACED = Ask("50 frames, 5 ms", frames=50, pace=5)
BURST = Ask("50 frames, at once", frames=50)
LONG = Ask("500 frames, 5 ms", frames=500, pace=5)
LONG_BURST = Ask("500 frames, at once", frames=500)

ONE, MANY = Cell(WHOLE, 1), Cell(WHOLE, 64)
PACED_16, PACED_64, BURST_64 = Cell(PACED, 16, apart=True), Cell(PACED, 64), Cell(BURST, 64)
BUSY = Cell(WHOLE, rate=400, without=frozenset({"litellm"}))

QUICK = (ONE, MANY, PACED_16, BURST_64)
FULL = (
    *(ONE, Cell(WHOLE, 16), MANY, Cell(WHOLE, rate=50), BUSY),
    *(Cell(WHOLE_50, 1), Cell(WHOLE_50, 16), Cell(WHOLE_50, 64), Cell(WHOLE_50, rate=50)),
    *(Cell(PACED, 1), PACED_16, PACED_64, Cell(PACED, 64, apart=True), Cell(PACED, rate=10)),
    *(Cell(BURST, 1), Cell(BURST, 16), BURST_64),
    *(Cell(LONG, 16), Cell(LONG_BURST, 16)),
)

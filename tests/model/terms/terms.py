"""The terms of a simulated world's rows, and who asks how. Plain data."""

import random
from dataclasses import dataclass, field
from typing import Any

PRIORITIES = ("critical", "normal", "batch")
WORDS = 400  # of a text, at the most
WORD_SECONDS = 0.3  # of a stream's length for each word, whoever says it


@dataclass(frozen=True, slots=True)
class Terms:
    """`hedging` is a budget; `continues`: texts go on elsewhere; `keyed` is the share of requests with a key.

    `capacity` is how many calls at once a provider takes before it refuses one; `tail` the share of calls that are slow
    for no reason; `ignores` are providers that begin a text anew, however they are asked.
    """

    hedging: float | None = None
    continues: bool = False
    keyed: float = 0.0
    capacity: dict[str, int] = field(default_factory=dict)
    tail: float = 0.0
    ignores: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """What the configuration says of each row."""
        hedging = {} if self.hedging is None else {"hedging": {"budget": self.hedging, "min_delay": 0.1}}
        return {**({"continuation": {"mode": "text"}} if self.continues else {}), **hedging}

    def provider(self, name: str) -> dict[str, Any]:
        """What it says of a provider."""
        continues = {"continues": {"*": "prefill"}} if self.continues else {}
        return {**continues, **({"concurrency": "auto"} if name in self.capacity else {})}


def drawn_terms(seed: int, names: list[str]) -> Terms | None:
    """The terms of the world of a seed; None for one in three."""
    rng = random.Random(f"{seed}/terms")
    if rng.random() < 1 / 3:
        return None
    continues = rng.random() < 0.6
    full = rng.random() < 0.25
    return Terms(
        hedging=rng.choice([None, 0.02, 0.05]),
        continues=continues,
        keyed=rng.choice([0.0, 0.1, 0.3]),
        capacity={names[0]: rng.randint(2, 12)} if full else {},
        tail=rng.choice([0.0, 0.02, 0.05]),
        ignores=tuple(names[-1:]) if continues and rng.random() < 0.3 else (),
    )

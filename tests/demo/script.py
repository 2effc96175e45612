"""The script: which provider breaks when, and how. Pure: nothing here starts anything or waits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.fakes.server import Behaviour, status

CLOUDS = ("openai", "google_genai", "anthropic")
LOCAL = "local"
# What each cloud's model says to everything, so that half an answer, or a seam, can be told from a whole one.
TEXT = (
    "A breakwater is a wall of stone that is built into the sea. Waves break on it, and the water behind it stays "
    "calm, so that ships can lie there whatever the weather is."
)
MOST_PER_SECOND = 30  # requests of all clients together
PACE = 0.01  # seconds between two pieces of five characters: an answer takes half a second
# A fake can't use a connection again on which it has watched whether its client leaves.
WELL = Behaviour(pace=PACE, headers={"connection": "close"})


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the script.

    Attributes:
        name: what happens, as the line says it.
        broken: what becomes of a provider's requests; the others answer.
        every: breaks one in so many of them; the first is one.
        watched: the providers whose circuits the line tells of.
        pictured: whether the picture is of this phase.
    """

    name: str
    seconds: float
    broken: Mapping[str, Behaviour] = field(default_factory=dict)
    every: int = 1
    watched: tuple[str, ...] = ()
    pictured: bool = False


def behaviours(phase: Phase) -> dict[str, list[Behaviour]]:
    """Return what each cloud does with its requests of a phase, in turns. The last is for all that are left."""
    most = int(phase.seconds * MOST_PER_SECOND)
    return {name: _in_turns(phase.broken.get(name, WELL), phase.every, most) for name in CLOUDS}


def _in_turns(behaviour: Behaviour, every: int, most: int) -> list[Behaviour]:
    turns = [behaviour, *[WELL] * (every - 1)]
    return turns * (most // every + 1) if every > 1 and behaviour is not WELL else turns[:1]


def outage(phase: Phase) -> list[Phase]:
    """Return an outage, and what follows it: the same providers answer again."""
    names = " and ".join(phase.broken)
    return [
        replace(phase, watched=tuple(phase.broken)),
        Phase(f"{names} answers again", 8, watched=tuple(phase.broken)),
    ]


OUT: Mapping[str, Behaviour] = {"openai": status(500), "google_genai": status(503), "anthropic": status(529)}
CUT = Behaviour("cut", after=20, pace=PACE)
SCRIPT: Sequence[Phase] = (
    Phase("all providers answer", 8),
    *outage(Phase("openai answers 429, Retry-After 5", 11, {"openai": status(429, retry_after="5")})),
    *outage(Phase("google_genai hangs before any content", 11, {"google_genai": Behaviour("hang")})),
    *outage(Phase("anthropic cuts one in three answers", 11, {"anthropic": CUT}, every=3)),
    *outage(Phase("openai answers 500", 12, {"openai": status(500)}, pictured=True)),
    Phase("all clouds are out", 14, OUT, watched=CLOUDS),
    Phase("all providers answer again", 20, watched=CLOUDS),
)


def at_speed(script: Sequence[Phase], speed: float) -> list[Phase]:
    """Return a script whose phases are so many times as short. What a provider does stays as it is."""
    return [replace(phase, seconds=phase.seconds / speed) for phase in script]


def rounds(script: Sequence[Phase], *, once: bool) -> Iterator[Phase]:
    """Yield the phases once, or round and round."""
    yield from script
    while not once:
        yield from script

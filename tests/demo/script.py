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
PACE = 0.01  # seconds between two pieces of five characters: an answer takes half a second
WELL = Behaviour(pace=PACE)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the script.

    Attributes:
        name: what happens, as the line says it.
        broken: what becomes of a provider's requests; the others answer.
        watched: the providers whose circuits the line tells of.
        pictured: whether the picture is of this phase.
    """

    name: str
    seconds: float
    broken: Mapping[str, Behaviour] = field(default_factory=dict)
    watched: tuple[str, ...] = ()
    pictured: bool = False


def behaviours(phase: Phase) -> dict[str, Behaviour]:
    """Return what each cloud does in a phase."""
    return {name: phase.broken.get(name, WELL) for name in CLOUDS}


def _outage(name: str, behaviour: Behaviour, what: str, seconds: float, *, pictured: bool = False) -> list[Phase]:
    mended = Phase(f"{name} answers again", 8, watched=(name,))
    return [Phase(f"{name} {what}", seconds, {name: behaviour}, (name,), pictured), mended]


OUT: Mapping[str, Behaviour] = {"openai": status(500), "google_genai": status(503), "anthropic": status(529)}
SCRIPT: Sequence[Phase] = (
    Phase("all providers answer", 8),
    *_outage("openai", status(429, retry_after="5"), "answers 429, Retry-After 5", 11),
    *_outage("google_genai", Behaviour("hang"), "hangs before any content", 11),
    *_outage("anthropic", Behaviour("cut", after=20, pace=PACE), "cuts streams in mid-answer", 11),
    *_outage("openai", status(500), "answers 500", 12, pictured=True),
    Phase("all clouds are out", 14, OUT, CLOUDS),
    Phase("all providers answer again", 16, watched=CLOUDS),
)


def at_speed(script: Sequence[Phase], speed: float) -> list[Phase]:
    """Return a script whose phases are so many times as short. What a provider does stays as it is."""
    return [replace(phase, seconds=phase.seconds / speed) for phase in script]


def rounds(script: Sequence[Phase], *, once: bool) -> Iterator[Phase]:
    """Yield the phases once, or round and round."""
    yield from script
    while not once:
        yield from script

"""What a simulated world is made of: everything that happens in it but the answers of the code under test.

Plain data. Times are seconds since the run began. `drawn.py` draws a script from a seed, `profiles.py` has some by
hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.model.terms.terms import Terms

MODEL = "m"  # every provider's upstream model

# How a provider is at fault; "lost" is a replica of ours that dies with its calls.
KINDS = (
    *("refuse", "500", "429", "hang", "mid-stream", "stall", "flaky"),
    *("slow", "credential", "empty", "malformed", "lost"),
)
TENTH = "tenth"  # each tenth call is refused with a 500: no reason to leave a provider
UNFIT = "unfit"  # a prompt that the first tier alone refuses
ODD = ("slow", "wrong", "server_error", "empty", "malformed", "silent")  # prompts of one client that fail at every tier


@dataclass(frozen=True, slots=True)
class Tier:
    """A provider in health: seconds to the first token, to a whole answer, and between two frames."""

    name: str
    first: float = 0.3
    whole: float = 0.5
    pace: float = 0.3


@dataclass(frozen=True, slots=True)
class Fault:
    """`named`: a 429's Retry-After is what is left of its present span of so many seconds."""

    provider: str
    kind: str
    begin: float
    end: float
    named: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """The actor is away from all replicas, or from one. `hangs`: calls are not refused, they just get no answer."""

    kind: str  # crash, node, freeze, gone, partition
    begin: float
    end: float
    replica: int | None = None
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    at: float
    verb: str
    provider: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Burst:
    begin: float
    end: float
    rate: float


@dataclass(frozen=True, slots=True)
class Load:
    """Who asks. Shares are in [0, 1]; `rate` is requests a second."""

    rate: float = 1.0
    most: int = 20_000
    streams: float = 0.5
    hurried: float = 0.0  # name a deadline of their own, in `deadlines`
    deadlines: tuple[float, float] = (0.05, 600.0)
    leaving: float = 0.0  # go early
    pausing: float = 0.0  # stop reading for minutes, in `pauses`
    pauses: tuple[float, float] = (30.0, 240.0)
    long: float = 0.0  # of the streams last for minutes, up to `longest`
    longest: float = 3600.0
    lengths: tuple[float, float] = (1.0, 10.0)  # of the other streams, seconds
    bursts: tuple[Burst, ...] = ()
    thinking: int = 0  # frames of each stream in which its model only thinks
    odd: str | None = None
    odd_rate: float = 0.0
    odd_together: int = 1  # so many of its requests at one instant
    even: bool = False  # requests come at equal distances
    shares: Mapping[str, float] = field(default_factory=dict)  # row to weight; by default all alike


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    seed: int
    seconds: float
    tiers: tuple[Tier, ...]
    rows: Mapping[str, tuple[str, ...]]
    load: Load = field(default_factory=Load)
    replicas: int = 2
    latency: tuple[float, float] = (0.001, 0.004)  # of the actor: there and back
    lost: float = 0.0  # of messages, each way
    twice: float = 0.0
    faults: tuple[Fault, ...] = ()
    outages: tuple[Outage, ...] = ()
    commands: tuple[Command, ...] = ()
    stalls: tuple[Stall, ...] = ()
    terms: Terms | None = None

    def config(self) -> dict[str, object]:
        """The application's args."""
        terms = self.terms or Terms()
        return {
            "providers": {
                t.name: {"kind": "openai", "base_url": f"http://127.0.0.1:1/{t.name}", **terms.provider(t.name)}
                for t in self.tiers
            },
            "models": {row: dict.fromkeys(names, MODEL) for row, names in self.rows.items()},
            **({"rows": {"*": row}} if (row := terms.row()) else {}),
            **({"idempotency": {"keep": 600}} if terms.keyed else {}),
        }

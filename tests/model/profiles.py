"""Worlds by hand, each for one way in which a cluster has failed its clients though somebody was well.

Seconds since the run began. The number is that of the finding in the review of the core.
"""

from tests.model.script import TENTH, Burst, Command, Fault, Load, Outage, Script, Stall, Tier
from tests.model.terms.terms import Terms

TWO = (Tier("a"), Tier("b"))
THREE = (*TWO, Tier("c"))
FIVE = (*THREE, Tier("d"), Tier("e"))
AB = {"default": ("a", "b")}
NEVER = float("inf")


def even(rate: float, **more: object) -> Load:
    return Load(rate=rate, even=True, **more)  # type: ignore[arg-type]


BREAKS = ("mid-stream", "stall", "lost", "mid-stream", "stall")
BROKEN = tuple(Fault("a", kind, 40 + 80 * i, 60 + 80 * i) for i, kind in enumerate(BREAKS))
TEXTS = Terms(hedging=0.05, continues=True)


def texts(name: str, seed: int, faults: tuple[Fault, ...], terms: Terms) -> Script:
    """A world of streams alone, at three providers, of which the first has these faults."""
    load = even(3.0, streams=1.0)
    return Script(name, seed, 600, THREE, {"default": ("a", "b", "c")}, load, 2, faults=faults, terms=terms)


_ALL = (
    # a model thinks all the time, and its provider breaks streams meanwhile: another begins anew
    Script(
        "thinking",
        40,
        300,
        THREE,
        {"default": ("a", "b", "c")},
        even(2.0, streams=1.0, lengths=(3.0, 6.0), thinking=99),
        2,
        faults=(Fault("a", "mid-stream", 30, 90), Fault("b", "mid-stream", 120, 150)),
    ),
    # 1: each permit takes longer than the ingress waits for it
    Script(
        "slow-actor",
        1,
        900,
        TWO,
        {"default": ("a",), "second": ("a", "b")},
        even(1.0),
        1,
        (0.06, 0.5),
        faults=(Fault("a", "500", 30, 60),),
    ),
    # 1: the ingress stands still while each permit is on its way, for a while
    Script(
        "stalls-around-permits",
        2,
        600,
        TWO,
        AB,
        even(1.0, streams=0.0),
        1,
        (0.01, 0.012),
        faults=(Fault("a", "500", 30, 60),),
        stalls=tuple(Stall(t + 0.002, 0.09) for t in range(80, 580)),
    ),
    # 2: the actor goes when all are open, and stays away
    Script(
        "actor-away",
        3,
        2400,
        TWO,
        AB,
        even(0.5),
        2,
        faults=(Fault("a", "500", 30, 90), Fault("b", "refuse", 30, 90)),
        outages=(Outage("gone", 70, NEVER),),
    ),
    # 2: an isolation ends while the actor is away
    Script(
        "isolated-actor-away",
        4,
        1200,
        TWO,
        AB,
        even(0.5),
        2,
        commands=(Command(30, "isolate", "a", 60), Command(32, "isolate", "b", 60)),
        outages=(Outage("gone", 50, NEVER),),
    ),
    # 3: the second tier was out hours ago, and nobody has asked it since
    Script(
        "second-tier-due",
        5,
        3000,
        TWO,
        AB,
        even(0.5),
        2,
        faults=(
            Fault("a", "refuse", 20, 40),
            Fault("b", "refuse", 20, 200),
            Fault("a", "500", 2000, 2100),
            Fault("a", "refuse", 2600, 2700),
        ),
    ),
    Script(
        "second-tier-by-hand",
        6,
        600,
        TWO,
        AB,
        even(2.0),
        2,
        faults=(Fault("a", "500", 300, 330), Fault("a", "refuse", 500, 501)),
        commands=(Command(100, "recover", "b"),),
    ),
    # 4: one client's prompts are slow, or poison, at every tier
    Script(
        "slow-prompts",
        7,
        300,
        THREE,
        {"default": ("a", "b", "c")},
        even(5.0, streams=1.0, odd="slow", odd_rate=0.05, odd_together=4),
        1,
    ),
    Script("empty-prompts", 8, 300, THREE, {"default": ("a", "b", "c")}, even(2.0, odd="empty", odd_rate=3.0), 1),
    Script(
        "poison-prompts", 9, 300, THREE, {"default": ("a", "b", "c")}, even(2.0, odd="server_error", odd_rate=3.0), 1
    ),
    # One client's prompts are more than the first tier takes, while the second is down for some time.
    Script(
        "unfit-prompts",
        21,
        300,
        THREE,
        {"default": ("a", "b", "c")},
        even(2.0, odd="unfit", odd_rate=3.0),
        1,
        faults=(Fault("b", "500", 60, 150),),
    ),
    # 5: the first tier hangs, and clients name deadlines; the second alone has not the time for it
    Script(
        "hang-with-deadlines",
        10,
        900,
        TWO,
        AB,
        even(0.5, streams=0.5, hurried=1.0, deadlines=(8.0, 12.0)),
        1,
        faults=(Fault("a", "hang", 30, 900),),
    ),
    # 6: the tiers in the middle have no time at all
    Script(
        "five-tiers",
        11,
        600,
        FIVE,
        {"default": ("a", "b", "c", "d", "e")},
        even(1.0, hurried=0.5, deadlines=(20.0, 40.0)),
        1,
        faults=(Fault("a", "hang", 30, 500), Fault("b", "hang", 100, 500), Fault("e", "hang", 20, 550)),
    ),
    Script(
        "time-left-over",
        12,
        300,
        THREE,
        {"default": ("a", "b", "c")},
        even(1.0, streams=0.0, hurried=1.0, deadlines=(15.0, 20.0)),
        1,
        faults=(Fault("a", "hang", 30, 250), Fault("c", "refuse", 25, 260)),
    ),
    # 7: streams flow, a tenth of those that begin is refused
    Script(
        "tenth-refused",
        13,
        240,
        (Tier("a", pace=0.8), Tier("b", pace=0.8)),
        AB,
        even(10.0, streams=1.0, lengths=(60.0, 60.5)),
        1,
        faults=(Fault("a", TENTH, 10, 240),),
    ),
    # 8: the one probe of a row flows for minutes
    Script(
        "solo-long-probe",
        14,
        900,
        (Tier("a", pace=2.0),),
        {"default": ("a",)},
        even(0.5, streams=1.0, lengths=(300.0, 300.5)),
        2,
        faults=(Fault("a", "refuse", 30, 60),),
    ),
    # 9: the trial on our own word is used up by who is answered by another
    Script(
        "trial-unused",
        15,
        200,
        TWO,
        AB,
        even(1.0),
        1,
        faults=(Fault("a", "refuse", 60, 66), Fault("b", "refuse", 60, 66), Fault("a", "500", 108, 120)),
        outages=(Outage("gone", 30, NEVER),),
    ),
    # 10: all of one row is down and asks; the probes of another row are due
    Script(
        "rows-that-ask",
        16,
        200,
        TWO,
        {"default": ("a",), "second": ("b",)},
        even(40.0, streams=0.0, shares={"default": 1.0, "second": 0.001}),
        1,
        (0.04, 0.045),
        faults=(Fault("a", "refuse", 10, 200), Fault("b", "refuse", 15, 70)),
        commands=(Command(16, "recover", "b"),),
    ),
    # 11: our own process stands still
    Script(
        "long-stalls",
        17,
        300,
        (Tier("a", 1.0, 2.0), Tier("b")),
        AB,
        even(4.0),
        1,
        stalls=tuple(Stall(20.0 + 40 * i, s) for i, s in enumerate((12.0, 15.0, 16.5, 31.0, 14.0, 20.0))),
    ),
    Script(
        "short-stalls",
        18,
        120,
        (Tier("a", 0.2, 0.5, 0.05), Tier("b")),
        AB,
        even(5.0, streams=1.0),
        1,
        stalls=tuple(Stall(20.0 + i, 0.13 + i % 7 / 100) for i in range(90)),
    ),
    # 13: readers stop, for minutes
    Script(
        "readers-that-stop",
        19,
        300,
        TWO,
        AB,
        even(0.5, streams=1.0, pausing=0.1, pauses=(4000, 5000)),
        2,
        faults=(Fault("a", "500", 100, 130),),
    ),
    # 15: texts go on, rescued or not; second legs; requests that come twice; a target that is full
    texts("texts-that-go-on", 31, BROKEN, Terms(continues=True)),
    texts("texts-that-are-rescued", 32, BROKEN, TEXTS),
    # Silences of some seconds: most of those who are asked beside are not needed.
    texts("seldom-silent", 37, tuple(Fault("a", "stall", 30 + 15 * i, 32.4 + 15 * i) for i in range(36)), TEXTS),
    Script(
        "still-for-seconds",
        38,
        400,
        TWO,
        AB,
        even(60.0, streams=1.0, lengths=(1.0, 2.0)),
        1,
        stalls=tuple(Stall(60.0 + 40 * i, 4.5) for i in range(8)),
        terms=Terms(),
    ),
    Script(
        "second-legs",
        33,
        600,
        TWO,
        AB,
        even(8.0, streams=0.7),
        2,
        faults=(Fault("a", "hang", 100, 160), Fault("b", "500", 250, 300), Fault("a", "429", 350, 410, 20.0)),
        terms=Terms(hedging=0.05, tail=0.03),
    ),
    Script(
        "sent-twice",
        34,
        400,
        TWO,
        AB,
        even(3.0),
        3,
        faults=(Fault("a", "refuse", 60, 100), Fault("a", "mid-stream", 200, 230)),
        terms=Terms(keyed=0.8),
    ),
    Script(
        "sent-twice-and-all-else",
        35,
        400,
        THREE,
        {"default": ("a", "b", "c")},
        even(3.0),
        3,
        faults=(Fault("a", "refuse", 60, 100), Fault("a", "mid-stream", 200, 230), Fault("b", "stall", 220, 250)),
        terms=Terms(hedging=0.05, continues=True, keyed=0.5, tail=0.03, ignores=("c",)),
    ),
    Script(
        "full",
        36,
        400,
        (Tier("a", 0.5, 1.0), Tier("b", 0.5, 1.0)),
        {"default": ("a",), "second": ("a", "b")},
        Load(rate=9.0, streams=0.3, lengths=(1.0, 3.0), bursts=(Burst(100, 130, 25.0),)),
        1,
        terms=Terms(capacity={"a": 6}),
    ),
    # 14: all throttle, then one is well
    Script(
        "all-throttle",
        20,
        400,
        TWO,
        AB,
        Load(rate=2.0, bursts=(Burst(50, 55, 50.0),)),
        2,
        faults=(Fault("a", "429", 60, 180, 60.0), Fault("b", "429", 60, 150, 30.0)),
    ),
)

PROFILES = {script.name: script for script in _ALL}

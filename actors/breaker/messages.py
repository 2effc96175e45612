"""What crosses between an ingress replica and the breaker actor, and what the actor stores. Pure types.

Keys are wire words: an ingress of one version talks to an actor of another during a rolling deploy, and a new actor
reads its predecessor's checkpoint. So a key keeps its name and its meaning; a new one is `NotRequired`. Instants never
cross: they travel as ages or as remaining seconds.
"""

from typing import Any, NotRequired, TypedDict

from actors.breaker.plan import Target, TargetSnapshot

Version = tuple[int, int]  # the actor's incarnation, and the number of its registry's changes
PolicyFields = dict[str, Any]  # circuit.Policy by its fields' names; durations are seconds


class BreakerConfig(TypedDict):
    """What an application tells its actor in `hello`."""

    policy: PolicyFields
    targets: list[Target]


class WhoAmI(TypedDict):
    """The answer to `hello` and `whoami`. `code` is the fingerprint of the source that the actor runs."""

    pid: int
    incarnation: int
    code: str


class WatchAnswer(TypedDict):
    """The long poll's answer: the registry's snapshot, and the policy that the actor decides by."""

    version: Version
    policy: PolicyFields
    targets: dict[Target, TargetSnapshot]


class ProbeGrant(TypedDict):
    """What the registry grants to one asker: a probe in this epoch, under this lease."""

    target: Target
    epoch: int
    lease: str


class Permit(TypedDict):
    """The consent to one call. It is a probe if it has a `lease`, or a `trial`."""

    epoch: int  # of the target's circuit
    incarnation: int  # of the actor
    target: NotRequired[Target]
    lease: NotRequired[str | None]
    trial: NotRequired[str | None]  # granted by the ingress's own local breaker: it never crosses


def is_exclusive(permit: Permit) -> bool:
    """Return whether a permit is a probe's: nobody else may have one meanwhile."""
    return bool(permit.get("lease") or permit.get("trial"))


class ReportDetails(TypedDict):
    """What an ingress says of one attempt, or of several equal ones."""

    kind: str  # of outcomes.ENDINGS, or unused, started, flowing
    ms: float  # the sum, if there are several
    whole: NotRequired[bool]  # an answer without a stream
    began: NotRequired[float | None]  # when, on the ingress's own clock: it never crosses, `age` does
    age: NotRequired[float]  # how many seconds ago it began; of several the newest, of kind flowing the oldest
    lease: NotRequired[str | None]  # a probe's
    seconds: NotRequired[float]  # of kind flowing: how long all of them together have flowed
    status: NotRequired[int | None]
    code: NotRequired[str | None]
    message: NotRequired[str]
    retry_after: NotRequired[float | None]  # seconds, as the provider said
    at: NotRequired[float]  # wall clock, seconds since the epoch
    shared: NotRequired[bool]  # it was not asked itself: another place has failed in a way that holds for it too


class ReportItem(ReportDetails):
    """One item of a batch."""

    target: Target
    epoch: int
    verdict: str  # of outcomes.Verdict
    incarnation: NotRequired[int]  # the actor's own if it is missing
    count: NotRequired[int]  # how many equal ones; one if it is missing


class SeenHealth(TypedDict):
    """One target for people, as far as an ingress can tell it without the actor."""

    state: str
    isolated: bool
    probing: bool
    epoch: int
    retry_in_seconds: float
    consecutive_failures: int
    requests: int
    ok: int
    ms: float  # the sum of whole answers
    last_error: dict[str, object] | None


class TargetHealth(SeenHealth):
    """One target for people, as the actor tells it."""

    isolated_for_seconds: float
    share: float
    reason: str
    since_seconds: float
    failed: int
    neutral: int
    probes: int
    late_reports: int
    unclassified: int


class Series(TypedDict):
    """The last minutes, slot by slot: see history.py."""

    ok: list[int]
    failed: list[int]
    ms: list[int]


class Change(TypedDict):
    """What an operator has changed."""

    at: float  # wall clock, seconds since the epoch
    by: str  # as the operator says, or by which way
    what: str
    detail: str


class BreakerHealth(TypedDict):
    """The answer to `health`."""

    incarnation: int
    policy: PolicyFields  # in force
    configured: PolicyFields
    overrides: PolicyFields  # what an operator has set since, which wins
    targets: dict[Target, TargetHealth]
    changes: NotRequired[list[Change]]  # the newest first


class BreakerStatus(BreakerHealth):
    """The answer to `status`."""

    trends: dict[Target, Series]


class LeaseCheckpoint(TypedDict):
    name: str
    until: float  # remaining seconds


class CircuitCheckpoint(TypedDict):
    """One circuit as it is stored: ages and remaining seconds instead of instants."""

    state: str
    mode: str
    epoch: int
    since: float
    reason: str
    open_until: float
    level: int
    strikes: int
    faults: int
    inconclusive: int
    isolated_until: float
    ramp_from: float | None
    ghosts: list[LeaseCheckpoint]


class BreakerCheckpoint(TypedDict):
    """What the actor stores at each change."""

    board: dict[Target, CircuitCheckpoint]
    overrides: PolicyFields
    changes: NotRequired[list[Change]]


class StoredCheckpoint(BreakerCheckpoint):
    """What it finds again: the store has added the schema, and the wall clock in seconds since the epoch."""

    schema: int
    wall: float

"""The answers of the Python and the HTTP API that have fixed keys. Types alone, without code.

Rates are percentages, durations milliseconds unless the key says seconds, states lower case.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

from actors.breaker.messages import Change
from deployments.openai_api.json_types import JsonObject

State = Literal["closed", "open", "half_open"]


class LastError(TypedDict):
    """The last failure of a target."""

    kind: str  # of the outcome
    status: NotRequired[int]  # HTTP status, where there was one
    code: NotRequired[str]  # the provider's error code, where there was one
    message: NotRequired[str]
    at: NotRequired[float]  # seconds since 1970


class TargetHealth(TypedDict):
    """One target's circuit. While the breaker actor is away, only the keys that an ingress knows are there."""

    state: State
    isolated: bool  # an operator has taken the target out
    probing: bool  # a probe is out
    epoch: int  # of the circuit
    retry_in_seconds: float  # until an open circuit admits a probe; 0 if it is not open
    consecutive_failures: int  # starts or streams in a row, whichever is more
    requests: int  # successes and failures
    ok: int  # successes
    last_error: LastError | None
    isolated_for_seconds: NotRequired[float]  # until the isolation ends by itself
    share: NotRequired[float]  # of the traffic, from 0 to 1; below 1 during slow start
    reason: NotRequired[str]  # of the last opening
    since_seconds: NotRequired[float]  # how long the circuit has been in its state
    failed: NotRequired[int]  # failures of the provider
    neutral: NotRequired[int]  # ends that say nothing of the provider's health
    probes: NotRequired[int]
    late_reports: NotRequired[int]  # reports of an earlier epoch
    unclassified: NotRequired[int]  # failures of an unknown kind


class PlaceHealth(TypedDict):
    """One place of a provider: a key, an account or a region."""

    available: bool  # at least one of its circuits lets calls through
    left_out: str | None  # why it is not called in this deployment


class ProviderHealth(TypedDict):
    """One provider, over all its targets."""

    available: bool  # at least one circuit lets calls through
    state: State  # the worst of its circuits
    isolated: bool  # all of its targets are isolated
    left_out: str | None  # why the provider is not called in this deployment
    success_rate: float | None  # percent; None without requests
    avg_latency_ms: float | None  # of successes; None without one
    consecutive_failures: int  # the most of its targets
    total_requests: int
    last_error: LastError | None  # the newest of its targets
    targets: dict[str, TargetHealth]
    places: NotRequired[dict[str, PlaceHealth]]  # only if the provider has any


class LedgerHealth(TypedDict):
    """How this replica's ledger client does."""

    store: Literal["up", "down"]
    journal: Literal["disk", "memory"]  # memory: the journal's disk failed
    lag_rows: int  # rows that are not in the store yet
    lag_seconds: float  # the age of the oldest of them
    dropped: int  # rows lost because the journal was full
    adopted: int  # journals of dead replicas that were taken over
    refused: int  # requests that a limit refused
    missing: int  # journals of replicas that are gone with their nodes, as the ledger actor knows


class HealthSummary(TypedDict):
    """All providers of the configuration, in order of preference."""

    service_name: str
    breaker_actor: Literal["away", "reachable"]
    available_providers: list[str]
    total_providers: int
    total_requests: int
    overall_success_rate: float | None  # percent; None without requests
    provider_states: dict[str, State]
    provider_health: dict[str, ProviderHealth]
    ledger: NotRequired[LedgerHealth]  # only where the application has a ledger


class LlmService(TypedDict):
    """The service as a whole."""

    health: Literal["healthy", "degraded", "unhealthy"]
    circuit_breaker_state: State  # of the provider that is asked first; open if it is isolated
    failure_count: int  # consecutive failures of that provider
    aws_available: bool
    local_available: bool


class Services(TypedDict):
    llm: LlmService


class SystemHealth(TypedDict):
    mode: str  # of the configuration
    services: Services


class Override(TypedDict):
    """A threshold that an operator has set, over the configuration's. It holds until it is taken back."""

    value: float  # in force
    configured: float | None  # what holds when it is taken back; null while an older breaker actor is not replaced


class Thresholds(TypedDict):
    """The breaker's policy in force. Durations are seconds; `actors.breaker.circuit.Policy` says why each."""

    failure_threshold: int  # consecutive failures that open a circuit
    recovery_timeout: float  # until the first probe
    recovery_cap: float  # the longest time until a probe
    window: float  # the time over which the failure ratio is taken
    window_calls: int  # the fewest calls that make a ratio
    window_ratio: float  # the ratio that opens a circuit
    level_decay: float  # closed for so long, earlier openings are forgotten
    slow_start: float  # how long the share of a closed circuit grows; 0: not at all
    slow_start_from: float  # the share at the start, from 0 to 1
    panic_every: float  # between the probes of a panic
    lease: float  # how long a probe may take
    throttle_min: float
    throttle_max: float
    throttle_default: float  # where the provider names no delay
    throttle_default_cap: float
    misconfigured_hold: float  # for a refused key, quota or model
    misconfigured_cap: float
    max_inconclusive: int  # probes in a row that decided nothing
    jitter: float  # the share of an open time that may be added
    overrides: dict[str, Override]  # by the names of thresholds
    changes: list[Change]  # by operators, the newest first


class ServedBy(TypedDict):
    """Who answered a request: the field `breakwater` of an answer, and the headers of an HTTP answer."""

    provider: str
    model: str  # the provider's own id
    place: NotRequired[str]  # of the provider, if that has places
    attempts: int  # targets that were asked
    degraded: bool  # the local model answered
    dropped: list[str]  # fields that the target was asked without
    request_id: str
    explained: NotRequired[JsonObject | None]  # see telemetry/explain.py; only on demand


class Completion(TypedDict):
    """The answer of the facade to a prompt."""

    response: str
    provider_used: str
    model: str  # the provider's own id
    usage: JsonObject | None  # as OpenAI has it
    attempts: int  # targets that were asked
    latency_ms: float
    degraded: bool  # the local model answered
    dropped: list[str]  # fields that the target was asked without
    finish_reason: str | None
    tool_calls: NotRequired[Sequence[JsonObject]]  # only if there are any


class PlannedFunction(TypedDict):
    """A function of another app that may be called."""

    name: str  # as the caller gave it
    target: str  # whose circuit it runs under
    permit: JsonObject | None  # to be sent back with the report
    probe: bool  # true: ask for a plan of this function alone before calling it


class FunctionPlan(TypedDict):
    """Which functions of another app to call, in order."""

    candidates: list[PlannedFunction]
    skipped: list[JsonObject]  # provider, model and outcome of each that must not be called
    retry_in_seconds: float | None  # until the first of the skipped may be called
    fresh_seconds: float  # how long the plan may be used again; 0: once only
    lease_seconds: float  # how long a probe may run without renewal
    timeout_seconds: float  # of one function, unless its caller sets another


class Nothing(TypedDict):
    """The empty answer to a report."""

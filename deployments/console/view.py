"""What the console shows, as one dict of fixed keys. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, NotRequired, TypeAlias, TypedDict

from actors.breaker.history import SLOT_SECONDS, SLOTS
from actors.breaker.plan import (
    Candidate,
    Plan,
    Skipped,
    model_of,
    of_functions,
    parts_of,
    place_of,
    provider_of,
    target_of,
)
from actors.ledger.messages import ClientHealth
from deployments.config.places import Tier
from deployments.openai_api.json_types import JsonObject
from deployments.providers.kinds import KINDS
from deployments.service.answers import LastError, State, TargetHealth
from deployments.service.health import external_providers, provider_health

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig

RATE_SLOTS = 6  # the rate of calls is taken over so many complete slots at most
Health = Literal["healthy", "degraded", "unhealthy"]
SlotSeries: TypeAlias = Mapping[str, Sequence[float]]  # by `ok`, `failed` and `ms`, one value a slot, the newest last
_HEALTH: tuple[Health, ...] = ("healthy", "degraded", "unhealthy")
_WORST = ("open", "resting", "half-open", "probing", "isolated", "ramping", "silent", "slow", "healthy")
_SHUT = _WORST[:5]
_REASONS: Mapping[str, str] = {
    "failures": "its calls failed",
    "throttled": "it told us to wait",
    "misconfigured": "it refused our key, our quota or the model's id",
    "lost": "its probe was lost",
    "inconclusive": "its probes were inconclusive",
}


class Recent(TypedDict):
    """How the calls of the last five minutes ended."""

    calls: int
    success_rate: float | None  # percent; None without calls
    avg_latency_ms: float | None  # of successes; None without one


class CircuitStatus(Recent):
    """One target."""

    name: str  # the target
    model: str  # with its place before it, if the provider has any
    word: str  # its state in one word
    why: str
    state: State
    epoch: int
    since_seconds: float | None  # how long it has been in its state; None where the breaker actor is away
    retry_in_seconds: float  # until an open circuit admits a probe
    isolated_for_seconds: float  # until the isolation ends by itself
    probing: bool
    share: float  # of the traffic, from 0 to 1; below 1 during slow start
    consecutive_failures: int
    last_error: LastError | None


class Trend(TypedDict):
    """The last five minutes slot by slot, the newest last. The newest slot has only begun."""

    ok: list[float]
    failed: list[float]
    latency_ms: list[float | None]


class TierStatus(Recent):
    """One provider, over its circuits."""

    name: str
    kind: str
    word: str
    why: str | None
    since_seconds: NotRequired[float | None]  # of its worst circuit
    available: bool
    state: State
    isolated: bool
    left_out: str | None
    last_error: LastError | None
    retry_in_seconds: float | None
    isolated_for_seconds: float
    share: float
    calls_per_second: float
    trend: Trend
    targets: list[CircuitStatus]


class CandidateStatus(TypedDict):
    target: str
    note: str | None  # why it is more, or less, than a candidate like others


class SkippedStatus(TypedDict):
    target: str
    why: str
    retry_in_seconds: float | None


class RowStatus(TypedDict):
    """One model row, with the order in force now."""

    name: str
    kind: str  # chat or embeddings
    health: Health
    first: str | None  # the target that is asked first
    alone: bool  # only one target is left of several
    order: list[CandidateStatus]
    skipped: list[SkippedStatus]


class Status(TypedDict):
    """All that the page shows. Rates are percentages."""

    at: float  # wall clock, seconds since the epoch
    mode: str
    health: Health  # that of the worst row
    why: str
    breaker_actor: Literal["away", "reachable"]
    ledger: ClientHealth | None
    commands: bool  # whether operators' commands are configured
    slots: int
    slot_seconds: float
    tiers: list[TierStatus]
    rows: list[RowStatus]


class _Summary(TypedDict):
    word: str
    why: str | None
    since_seconds: NotRequired[float | None]


@dataclass(frozen=True, slots=True)
class StatusData:
    """What one ingress replica knows now.

    Attributes:
        at: wall clock, seconds since the epoch.
        targets: the health of each target.
        trends: the last five minutes of each target.
        away: the breaker actor does not answer. Then `targets` come from its last snapshot, without counts.
        plans: the plan of each row, by the row's kind and name.
        stalled: targets whose streams have fallen silent together.
        slow: targets that take far longer than they usually do, as this replica sees it.
        ledger: the health of the ledger's client, where there is one.
    """

    at: float
    targets: Mapping[str, JsonObject]
    trends: Mapping[str, SlotSeries]
    away: bool
    plans: Mapping[tuple[str, str], Plan]
    stalled: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    ledger: ClientHealth | None = None


def build_status(resolved: "ResolvedConfig", data: StatusData) -> Status:
    """Return the tiers in order, and the rows with the order in force now.

    The health is that of the worst row, because the providers' alone don't tell which target answers.
    """
    own = {"chat": resolved.rows(), "embeddings": resolved.embedding_rows()}
    rows = [_row(kind, name, own[kind][name], resolved, data) for kind, name in data.plans]
    return {
        "at": round(data.at, 3),
        "mode": resolved.config.mode,
        "health": max((row["health"] for row in rows), key=_HEALTH.index, default="unhealthy"),
        "why": _in_one_sentence(rows),
        "breaker_actor": "away" if data.away else "reachable",
        "ledger": data.ledger,
        "commands": resolved.config.auth.admin_key_env is not None,
        "slots": SLOTS,
        "slot_seconds": SLOT_SECONDS,
        "tiers": [_tier(tier, data) for tier in (*resolved.tiers, *external_providers(resolved.tiers, data.targets))],
        "rows": rows,
    }


def _tier(tier: Tier, data: StatusData) -> TierStatus:
    health = provider_health(tier, data.targets)
    circuits = [_circuit(name, target, data) for name, target in health["targets"].items()]
    counted = [c for c in circuits if not of_functions(c["name"])] or circuits
    series = [data.trends.get(c["name"], {}) for c in counted]
    summary: _Summary = {"word": "left out", "why": tier.left_out} if tier.left_out else _summarise(counted)
    return {
        "name": tier.name,
        "kind": tier.kind,
        **summary,
        "available": health["available"],
        "state": health["state"],
        "isolated": health["isolated"],
        "left_out": health["left_out"],
        "last_error": health["last_error"],
        "retry_in_seconds": min((c["retry_in_seconds"] for c in counted if c["state"] == "open"), default=None),
        "isolated_for_seconds": max((c["isolated_for_seconds"] for c in counted), default=0.0),
        "share": min((c["share"] for c in counted), default=1.0),
        **_recent(series),
        **_by_slot(series),
        "targets": circuits,
    }


def _summarise(circuits: Sequence[CircuitStatus]) -> _Summary:
    """Return the word of the worst circuit, with `partly` if another lets calls through."""
    if not circuits:
        return {"word": "unused", "why": "no model row names it"}
    worst = min(circuits, key=lambda c: (_WORST.index(c["word"]), c["retry_in_seconds"]))
    alike = sum(c["word"] == worst["word"] for c in circuits)
    partly = worst["word"] in _SHUT and any(c["word"] not in _SHUT for c in circuits)
    return {
        "word": f"partly {worst['word']}" if partly else worst["word"],
        "why": worst["why"] if alike == len(circuits) else f"{alike} of {len(circuits)} circuits: {worst['why']}",
        "since_seconds": worst["since_seconds"],
    }


def _circuit(name: str, target: TargetHealth, data: StatusData) -> CircuitStatus:
    share = target.get("share", 1.0)
    word = _word(target, share, _stands_behind(name, data))
    return {
        "name": name,
        "model": f"{place}: {model_of(name)}" if (place := place_of(name)) else model_of(name),
        "word": word,
        "why": _why(word, target, share),
        "state": target["state"],
        "epoch": target["epoch"],
        "since_seconds": target.get("since_seconds"),
        "retry_in_seconds": target["retry_in_seconds"],
        "isolated_for_seconds": target.get("isolated_for_seconds", 0.0),
        "probing": target["probing"],
        "share": share,
        "consecutive_failures": target["consecutive_failures"],
        "last_error": target["last_error"],
        **_recent([data.trends.get(name, {})]),
    }


def _stands_behind(target: str, data: StatusData) -> str | None:
    """Return why others are asked before a target that lets all calls through; None if none is."""
    return "silent" if target in data.stalled else "slow" if target in data.slow else None


def _word(target: TargetHealth, share: float, behind: str | None) -> str:
    if target["isolated"]:
        return "isolated"
    match target["state"]:
        case "open":
            return "resting" if target.get("reason") == "throttled" else "open"
        case "half_open":
            return "probing" if target["probing"] else "half-open"
    return "ramping" if share < 1 else behind or "healthy"


def _why(word: str, target: TargetHealth, share: float) -> str:
    match word:
        case "open" | "resting":
            failures = target["consecutive_failures"]
            run = f" ({failures} in a row)" if target.get("reason") == "failures" and failures > 1 else ""
            return _REASONS.get(target.get("reason", ""), "the reason is unknown on this replica") + run
        case "probing":
            return "one request probes it"
        case "half-open":
            return "the next request probes it"
        case "isolated":
            return "an operator has isolated it"
        case "ramping":
            return f"slow start: it is asked first for {share:.0%} of its requests"
        case "silent":
            return "its streams have fallen silent, so others are asked first"
        case "slow":
            return "it takes far longer than it usually does, so others are asked first"
    return "takes calls"


def _recent(series: Sequence[SlotSeries]) -> Recent:
    ok, failed, ms = (sum(sum(s.get(key, ())) for s in series) for key in ("ok", "failed", "ms"))
    return {
        "calls": int(ok + failed),
        "success_rate": round(100 * ok / (ok + failed), 1) if ok + failed else None,
        "avg_latency_ms": round(ms / ok, 1) if ok else None,
    }


class _BySlot(TypedDict):
    calls_per_second: float
    trend: Trend


def _by_slot(series: Sequence[SlotSeries]) -> _BySlot:
    ok, failed, ms = (_add_up([s.get(key, ()) for s in series]) for key in ("ok", "failed", "ms"))
    latency = [round(m / good, 1) if good else None for m, good in zip(ms, ok, strict=True)]
    calls = [good + bad for good, bad in zip(ok, failed, strict=True)]
    return {"calls_per_second": _rate(calls), "trend": {"ok": ok, "failed": failed, "latency_ms": latency}}


def _rate(calls: Sequence[float]) -> float:
    complete = calls[-RATE_SLOTS - 1 : -1]
    return round(sum(complete) / (len(complete) * SLOT_SECONDS), 2) if complete else 0.0


def _add_up(series: Sequence[Sequence[float]]) -> list[float]:
    """Return the sums of each slot. All series end with the present slot, but begin with their first call."""
    return [sum(column) for column in zip_longest(*map(reversed, series), fillvalue=0)][::-1]


def _row(kind: str, name: str, own: Sequence[str], resolved: "ResolvedConfig", data: StatusData) -> RowStatus:
    """Return a row.

    It is healthy if its requests get their first choice, degraded if they get another target, and unhealthy if they
    get none but a probe.
    """
    plan = data.plans[kind, name]
    named = resolved.config.chat_models()[name] if kind == "chat" else resolved.config.embeddings[name].targets
    steady = [c.target for c in plan.candidates if not c.probe]
    # Which of its places answers makes no difference to a request.
    as_configured = bool(steady) and parts_of(steady[0]) == parts_of(own[0]) and not _stands_in(own[0], named, resolved)
    return {
        "name": name,
        "kind": kind,
        "health": "unhealthy" if not steady else "healthy" if as_configured else "degraded",
        "first": steady[0] if steady else None,
        "alone": len(steady) == 1 < len(named),
        "order": [{"target": c.target, "note": _note(c, data)} for c in plan.candidates or plan.panics],
        "skipped": [*map(_skipped, plan.skipped), *_left_out(named, resolved)],
    }


def _stands_in(target: str, named: Mapping[str, str], resolved: "ResolvedConfig") -> bool:
    """Return whether it is the local model in place of a cloud provider."""
    if resolved.config.mode == "local_only":
        return False
    in_process = {tier.name: KINDS[tier.kind].in_process for tier in resolved.tiers}
    return in_process[provider_of(target)] and not in_process[next(iter(named))]


def _skipped(skipped: Skipped) -> SkippedStatus:
    retry_in = skipped.retry_in if skipped.why == "open" else None  # in other cases it is a guess for a Retry-After
    return {"target": skipped.target, "why": skipped.why, "retry_in_seconds": retry_in}


def _left_out(named: Mapping[str, str], resolved: "ResolvedConfig") -> list[SkippedStatus]:
    why = {tier.name: tier.left_out for tier in resolved.tiers if tier.left_out is not None}
    return [
        {"target": target_of(provider, model), "why": why[provider], "retry_in_seconds": None}
        for provider, model in named.items()
        if provider in why
    ]


def _note(candidate: Candidate, data: StatusData) -> str | None:
    if candidate.probe:
        return "early probe (panic)" if candidate.panic else "probe"
    share = data.targets.get(candidate.target, {}).get("share", 1.0)
    return f"first for {share:.0%}" if share < 1 else _stands_behind(candidate.target, data)


def _in_one_sentence(rows: Sequence[RowStatus]) -> str:
    """Return who answers instead of the first choice, and for which rows."""
    instead: dict[str, list[str]] = {}
    for row in rows:
        if row["health"] != "healthy":
            instead.setdefault(_who_answers(row), []).append(row["name"])
    clauses = [who + _for_rows(names, len(rows)) for who, names in instead.items()]
    return "; ".join(clauses) or "every row asks its first choice"


def _who_answers(row: RowStatus) -> str:
    if row["first"] is None:
        return "no provider can be asked"
    who = provider_of(row["first"])
    return f"only {who} answers" if row["alone"] else f"{who} answers first"


def _for_rows(names: Sequence[str], rows: int) -> str:
    if len(names) == rows:
        return ""
    return f" for {', '.join(names)}" if len(names) <= 3 else f" for {len(names)} of {rows} rows"

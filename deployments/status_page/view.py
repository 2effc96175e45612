"""What the status page shows, as one plain dict. Pure: health.py says how it is, this says it to people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from actors.breaker.history import SLOT_SECONDS, SLOTS
from actors.breaker.plan import Candidate, Plan, Skipped, of_functions, provider_of, target_of
from deployments.config.tier import Tier
from deployments.providers.kinds import KINDS
from deployments.service.health import external_providers, provider_health

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig

LATELY = 6  # whole slots: the rate of calls is taken over so many at most
_HEALTH = ("healthy", "degraded", "unhealthy")
_WORST = ("open", "half-open", "probing", "isolated", "ramping", "silent", "healthy")
_SHUT = _WORST[:4]
_REASONS: Mapping[str, str] = {
    "failures": "its calls failed",
    "throttled": "it told us to wait",
    "misconfigured": "our key, our quota or the model's id is refused",
    "lost": "its probe did not come back",
    "inconclusive": "its probes proved nothing",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What one ingress replica knows now; `plans` by kind of row and its name."""

    at: float  # wall time
    targets: Mapping[str, Mapping[str, Any]]
    trends: Mapping[str, Mapping[str, Sequence[float]]]
    away: bool  # is the breaker actor? then the targets are its last sight, without figures
    plans: Mapping[tuple[str, str], Plan]
    quiet: frozenset[str] = frozenset()
    ledger: Mapping[str, Any] | None = None


def status(layout: "ResolvedConfig", known: Known) -> dict[str, Any]:
    """Tiers in order, each with its word, why, and what it did lately; rows with the order in force now.

    Its health is that of the worst row: of a provider whose circuits differ it can't be told who answers.
    Rates are percentages, of the last five minutes. Series end with the slot that has only begun.
    """
    own = {"chat": layout.rows(), "embeddings": layout.embedding_rows()}
    rows = [_row(kind, name, own[kind][name], layout, known) for kind, name in known.plans]
    return {
        "at": round(known.at, 3),
        "mode": layout.config.mode,
        "health": max((row["health"] for row in rows), key=_HEALTH.index, default="unhealthy"),
        "why": _in_one_sentence(rows),
        "breaker_actor": "away" if known.away else "reachable",
        "ledger": known.ledger,
        "commands": layout.config.auth.admin_key_env is not None,
        "slots": SLOTS,
        "slot_seconds": SLOT_SECONDS,
        "tiers": [_tier(tier, known) for tier in (*layout.tiers, *external_providers(layout.tiers, known.targets))],
        "rows": rows,
    }


def _tier(tier: Tier, known: Known) -> dict[str, Any]:
    health = provider_health(tier, known.targets)
    circuits = [_circuit(name, target, known) for name, target in health["targets"].items()]
    counted = [c for c in circuits if not of_functions(c["name"])] or circuits
    series = [known.trends.get(c["name"], {}) for c in counted]
    said = {"word": "left out", "why": tier.left_out} if tier.left_out else _said(counted)
    return {
        "name": tier.name,
        "kind": tier.kind,
        **said,
        "available": health["available"],
        "state": health["state"],
        "isolated": health["isolated"],
        "left_out": health["left_out"],
        "last_error": health["last_error"],
        "retry_in_seconds": min((c["retry_in_seconds"] for c in counted if c["word"] == "open"), default=None),
        "isolated_for_seconds": max((c["isolated_for_seconds"] for c in counted), default=0.0),
        "share": min((c["share"] for c in counted), default=1.0),
        **_lately(series),
        **_slot_by_slot(series),
        "targets": circuits,
    }


def _said(circuits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The word of a provider is its worst circuit's, `partly` so if others let calls through."""
    if not circuits:
        return {"word": "unused", "why": "no row has a model of it"}
    worst = min(circuits, key=lambda c: (_WORST.index(c["word"]), c["retry_in_seconds"]))
    alike = sum(c["word"] == worst["word"] for c in circuits)
    partly = worst["word"] in _SHUT and any(c["word"] not in _SHUT for c in circuits)
    return {
        "word": f"partly {worst['word']}" if partly else worst["word"],
        "why": worst["why"] if alike == len(circuits) else f"{alike} of {len(circuits)} circuits: {worst['why']}",
        "since_seconds": worst["since_seconds"],
    }


def _circuit(name: str, target: Mapping[str, Any], known: Known) -> dict[str, Any]:
    share = target.get("share", 1.0)
    word = _word(target, share, name in known.quiet)
    return {
        "name": name,
        "model": name.partition("/")[2],
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
        **_lately([known.trends.get(name, {})]),
    }


def _word(target: Mapping[str, Any], share: float, quiet: bool) -> str:
    if target["isolated"]:
        return "isolated"
    match target["state"]:
        case "open":
            return "open"
        case "half_open":
            return "probing" if target["probing"] else "half-open"
    return "ramping" if share < 1 else "silent" if quiet else "healthy"


def _why(word: str, target: Mapping[str, Any], share: float) -> str:
    match word:
        case "open":
            failures = target["consecutive_failures"]
            row = f" ({failures} in a row)" if target.get("reason") == "failures" and failures > 1 else ""
            return _REASONS.get(target.get("reason", ""), "why is not known here") + row
        case "probing":
            return "one request probes it"
        case "half-open":
            return "the next request probes it"
        case "isolated":
            return "taken out by hand"
        case "ramping":
            return f"it is back, and first for {share:.0%} of its requests"
        case "silent":
            return "its streams have fallen silent: others are asked first"
    return "takes calls"


def _lately(series: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """What became of the calls of the last five minutes."""
    ok, failed, ms = (sum(sum(s.get(key, ())) for s in series) for key in ("ok", "failed", "ms"))
    return {
        "calls": ok + failed,
        "success_rate": round(100 * ok / (ok + failed), 1) if ok + failed else None,
        "avg_latency_ms": round(ms / ok, 1) if ok else None,
    }


def _slot_by_slot(series: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """The same by the time of its end, the newest last."""
    ok, failed, ms = (_summed([s.get(key, ()) for s in series]) for key in ("ok", "failed", "ms"))
    latency = [round(m / good, 1) if good else None for m, good in zip(ms, ok, strict=True)]
    calls = [good + bad for good, bad in zip(ok, failed, strict=True)]
    return {"calls_per_second": _rate(calls), "trend": {"ok": ok, "failed": failed, "latency_ms": latency}}


def _rate(calls: Sequence[float]) -> float:
    whole = calls[-LATELY - 1 : -1]
    return round(sum(whole) / (len(whole) * SLOT_SECONDS), 2) if whole else 0.0


def _summed(series: Sequence[Sequence[float]]) -> list[float]:
    """They all end now, and begin when there was something to tell."""
    return [sum(column) for column in zip_longest(*map(reversed, series), fillvalue=0)][::-1]


def _row(kind: str, name: str, own: Sequence[str], layout: "ResolvedConfig", known: Known) -> dict[str, Any]:
    """`health` is what its requests meet: their first choice, somebody else, or nobody but a probe."""
    plan = known.plans[kind, name]
    named = layout.config.models[name] if kind == "chat" else layout.config.embeddings[name].targets
    steady = [c.target for c in plan.candidates if not c.probe]
    as_meant = bool(steady) and steady[0] == own[0] and not _stands_in(own[0], named, layout)
    return {
        "name": name,
        "kind": kind,
        "health": "unhealthy" if not steady else "healthy" if as_meant else "degraded",
        "first": steady[0] if steady else None,
        "alone": len(steady) == 1 < len(named),
        "order": [{"target": c.target, "note": _note(c, known)} for c in plan.candidates or plan.panics],
        "skipped": [*map(_skipped, plan.skipped), *_left_out(named, layout)],
    }


def _stands_in(target: str, named: Mapping[str, str], layout: "ResolvedConfig") -> bool:
    """Is it the local model, where a cloud was meant?"""
    if layout.config.mode == "local_only":
        return False
    in_process = {tier.name: KINDS[tier.kind].in_process for tier in layout.tiers}
    return in_process[provider_of(target)] and not in_process[next(iter(named))]


def _skipped(skipped: Skipped) -> dict[str, Any]:
    retry_in = skipped.retry_in if skipped.why == "open" else None  # else it is a guess, for a Retry-After
    return {"target": skipped.target, "why": skipped.why, "retry_in_seconds": retry_in}


def _left_out(named: Mapping[str, str], layout: "ResolvedConfig") -> list[dict[str, Any]]:
    why = {tier.name: tier.left_out for tier in layout.tiers if tier.left_out is not None}
    return [
        {"target": target_of(provider, model), "why": why[provider], "retry_in_seconds": None}
        for provider, model in named.items()
        if provider in why
    ]


def _note(candidate: Candidate, known: Known) -> str | None:
    if candidate.probe:
        return "probe, before its time" if candidate.panic else "probe"
    share = known.targets.get(candidate.target, {}).get("share", 1.0)
    return f"first for {share:.0%}" if share < 1 else "silent" if candidate.target in known.quiet else None


def _in_one_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Who answers instead of the first choice, and for which rows."""
    instead: dict[str, list[str]] = {}
    for row in rows:
        if row["health"] != "healthy":
            instead.setdefault(_who_answers(row), []).append(row["name"])
    said = [who + _of_how_many(names, len(rows)) for who, names in instead.items()]
    return "; ".join(said) or "every row asks its first choice"


def _who_answers(row: Mapping[str, Any]) -> str:
    if row["first"] is None:
        return "nobody can be asked"
    who = provider_of(row["first"])
    return f"only {who} answers" if row["alone"] else f"{who} answers first"


def _of_how_many(names: Sequence[str], rows: int) -> str:
    if len(names) == rows:
        return ""
    return f" for {', '.join(names)}" if len(names) <= 3 else f" for {len(names)} of {rows} rows"

"""What people and programs read of the providers' health, in the shapes that the user named. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.breaker import Mode, State
from actors.plan import Seen, provider_of
from deployments.config import Tier

SERVICE = "llm_service"
_WORST = ("open", "half_open", "closed")


def provider_health(tier: Tier, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One provider: rates are percentages, latencies milliseconds, states lower case.

    A provider has a circuit for each of its models. Its state is the worst of theirs; it is available
    as long as one of them lets calls through.
    """
    mine = {name: t for name, t in targets.items() if provider_of(name) == tier.name}
    ok = sum(t["ok"] for t in mine.values())
    requests = sum(t["requests"] for t in mine.values())
    isolated = bool(mine) and all(t["isolated"] for t in mine.values())
    state = min((t["state"] for t in mine.values()), key=_WORST.index, default="closed")
    shut = bool(mine) and all(t["isolated"] or t["state"] == "open" for t in mine.values())
    errors = [t["last_error"] for t in mine.values() if t["last_error"]]
    return {
        "available": tier.left_out is None and not shut,
        "state": state,
        "isolated": isolated,
        "left_out": tier.left_out,
        "success_rate": round(100 * ok / requests, 1) if requests else None,
        "avg_latency_ms": round(sum(t["ms"] for t in mine.values()) / ok, 1) if ok else None,
        "consecutive_failures": max((t["consecutive_failures"] for t in mine.values()), default=0),
        "total_requests": requests,
        "last_error": max(errors, key=lambda e: e.get("at", 0.0), default=None),
        "targets": {name: _public(t) for name, t in mine.items()},
    }


def health_summary(
    tiers: Sequence[Tier], targets: Mapping[str, Mapping[str, Any]], *, actor_away: bool
) -> dict[str, Any]:
    """All providers of the configuration, in order of preference."""
    every = {tier.name: provider_health(tier, targets) for tier in tiers}
    ok = sum(t["ok"] for t in targets.values())
    requests = sum(t["requests"] for t in targets.values())
    return {
        "service_name": SERVICE,
        "breaker_actor": "away" if actor_away else "reachable",
        "available_providers": [name for name, h in every.items() if h["available"]],
        "total_providers": len(every),
        "total_requests": requests,
        "overall_success_rate": round(100 * ok / requests, 1) if requests else None,
        "provider_states": {name: h["state"] for name, h in every.items()},
        "provider_health": every,
    }


def last_seen(sight: Mapping[str, Seen], now: float) -> dict[str, dict[str, Any]]:
    """What an ingress can say of each target by itself: states, and no figures."""
    unknown = {"ms": 0.0, "last_error": None, "consecutive_failures": 0} | dict.fromkeys(("ok", "requests"), 0)
    return {
        target: {
            **unknown,
            "state": seen.state.value,
            "isolated": seen.mode is Mode.ISOLATED,
            "epoch": seen.epoch,
            "retry_in_seconds": round(max(0.0, seen.open_until - now), 3) if seen.state is State.OPEN else 0.0,
        }
        for target, seen in sight.items()
    }


def _public(target: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in target.items() if key != "ms"}

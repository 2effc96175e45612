"""What people and programs read of the providers' health, in the shapes that the user named. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actors.breaker.plan import of_functions, provider_of
from deployments.config.application import Tier
from deployments.providers.kinds import KINDS

SERVICE = "llm_service"
_WORST = ("open", "half_open", "closed")


def provider_health(tier: Tier, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One provider: rates are percentages, latencies milliseconds, states lower case.

    A provider has a circuit for each of its models. Its state is the worst of theirs; it is available
    as long as one of them lets calls through.
    """
    mine = {name: t for name, t in targets.items() if provider_of(name) == tier.name}
    # What the functions of others meet says nothing of our own calls, unless there are none.
    counted = [t for name, t in mine.items() if not of_functions(name)] or list(mine.values())
    ok = sum(t["ok"] for t in counted)
    requests = sum(t["requests"] for t in counted)
    isolated = bool(counted) and all(t["isolated"] for t in counted)
    state = min((t["state"] for t in counted), key=_WORST.index, default="closed")
    shut = bool(counted) and all(t["isolated"] or t["state"] == "open" for t in counted)
    errors = [t["last_error"] for t in counted if t["last_error"]]
    return {
        "available": tier.left_out is None and not shut,
        "state": state,
        "isolated": isolated,
        "left_out": tier.left_out,
        "success_rate": round(100 * ok / requests, 1) if requests else None,
        "avg_latency_ms": round(sum(t["ms"] for t in counted) / ok, 1) if ok else None,
        "consecutive_failures": max((t["consecutive_failures"] for t in counted), default=0),
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


def system_health(mode: str, tiers: Sequence[Tier], targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The service as a whole. Its circuit is that of the provider that is asked first.

    `healthy`: that one lets calls through, and is no stand-in; `degraded`: only others do; else `unhealthy`.
    """
    called = [tier for tier in tiers if tier.left_out is None]
    health = {tier.name: provider_health(tier, targets) for tier in called}
    available = [tier for tier in called if health[tier.name]["available"]]
    first = health[called[0].name]
    stands_in = KINDS[called[0].kind].in_process and mode != "local_only"
    well = bool(available) and available[0] is called[0] and not stands_in
    service = {
        "health": "healthy" if well else "degraded" if available else "unhealthy",
        "circuit_breaker_state": "open" if first["isolated"] else first["state"],
        "failure_count": first["consecutive_failures"],
        "aws_available": any(KINDS[tier.kind].is_aws for tier in available),
        "local_available": any(KINDS[tier.kind].in_process for tier in available),
    }
    return {"mode": mode, "services": {"llm": service}}


def external_providers(tiers: Sequence[Tier], targets: Iterable[str]) -> list[Tier]:
    """Providers that we do not call ourselves, but whose functions run under our circuits."""
    ours = {tier.name for tier in tiers}
    names = dict.fromkeys(provider_of(target) for target in targets if of_functions(target))
    return [Tier(name, "functions", None) for name in names if name not in ours]


def _public(target: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in target.items() if key != "ms"}

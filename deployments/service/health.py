"""The health of providers and of the service, from the health of the targets. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from actors.breaker.plan import PLACE, is_of, of_functions, provider_of, site_of
from deployments.config.places import PlaceState, Tier
from deployments.openai_api.json_types import JsonObject
from deployments.providers.kinds import KINDS
from deployments.service.answers import (
    HealthSummary,
    LlmService,
    PlaceHealth,
    ProviderHealth,
    State,
    SystemHealth,
    TargetHealth,
)

SERVICE = "llm_service"
_WORST = ("open", "half_open", "closed")


def provider_health(tier: Tier, targets: Mapping[str, JsonObject]) -> ProviderHealth:
    """Return the health of one provider from the breaker's health of each target.

    A provider has a circuit for each of its models. Its state is the worst of theirs. It is available
    as long as one of them lets calls through.
    """
    mine = {name: t for name, t in targets.items() if is_of(name, tier.name)}
    # The functions of other apps say nothing of our own calls, so they count only where nothing else does.
    counted = [t for name, t in mine.items() if not of_functions(name)] or list(mine.values())
    ok = sum(t["ok"] for t in counted)
    requests = sum(t["requests"] for t in counted)
    isolated = bool(counted) and all(t["isolated"] for t in counted)
    states: list[State] = [t["state"] for t in counted]
    state: State = min(states, key=_WORST.index, default="closed")
    shut = bool(counted) and all(_is_shut(t) for t in counted)
    errors = [t["last_error"] for t in counted if t["last_error"]]
    health: ProviderHealth = {
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
    if tier.places:
        health["places"] = {place.name: _place_health(place, tier.name, mine) for place in tier.places}
    return health


def _place_health(place: PlaceState, provider: str, targets: Mapping[str, JsonObject]) -> PlaceHealth:
    mine = [t for name, t in targets.items() if site_of(name) == f"{provider}{PLACE}{place.name}"]
    shut = bool(mine) and all(_is_shut(t) for t in mine)
    return {"available": place.left_out is None and not shut, "left_out": place.left_out}


def _is_shut(target: JsonObject) -> bool:
    return bool(target["isolated"] or target["state"] == "open")


def health_summary(tiers: Sequence[Tier], targets: Mapping[str, JsonObject], *, actor_away: bool) -> HealthSummary:
    """Return the health of all providers of the configuration, in order of preference."""
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


def system_health(mode: str, tiers: Sequence[Tier], targets: Mapping[str, JsonObject]) -> SystemHealth:
    """Return the health of the service as a whole. Its circuit is that of the provider that is asked first.

    `healthy`: that provider lets calls through, and is not the local model in place of a cloud provider.
    `degraded`: only other providers let calls through. `unhealthy`: no provider does.
    """
    called = [tier for tier in tiers if tier.left_out is None]
    health = {tier.name: provider_health(tier, targets) for tier in called}
    available = [tier for tier in called if health[tier.name]["available"]]
    first = health[called[0].name]
    stands_in = KINDS[called[0].kind].in_process and mode != "local_only"
    well = bool(available) and available[0] is called[0] and not stands_in
    service: LlmService = {
        "health": "healthy" if well else "degraded" if available else "unhealthy",
        "circuit_breaker_state": "open" if first["isolated"] else first["state"],
        "failure_count": first["consecutive_failures"],
        "aws_available": any(KINDS[tier.kind].is_aws for tier in available),
        "local_available": any(KINDS[tier.kind].in_process for tier in available),
    }
    return {"mode": mode, "services": {"llm": service}}


def external_providers(tiers: Sequence[Tier], targets: Iterable[str]) -> list[Tier]:
    """Return the providers that we do not call ourselves, but whose functions run under our circuits."""
    ours = {tier.name for tier in tiers}
    names = dict.fromkeys(provider_of(target) for target in targets if of_functions(target))
    return [Tier(name, "functions", None) for name in names if name not in ours]


def _public(target: JsonObject) -> TargetHealth:
    # The sum of milliseconds serves the average above; nobody else reads it.
    return cast(TargetHealth, {key: value for key, value in target.items() if key != "ms"})

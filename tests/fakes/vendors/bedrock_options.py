"""What Bedrock refuses of the options beside a chat: tiers, latencies, guardrails, ARNs that are not there."""

from tests.fakes.vendors import Asked, Refusal
from tests.fakes.vendors.bedrock import refuse


def service_tier(asked: Asked) -> Refusal | None:
    """Refuse each tier but the usual one: NousResearch/hermes-agent#34476, maximhq/bifrost#7266."""
    tier = asked.body.get("serviceTier", {}).get("type", "default")
    return None if tier == "default" else refuse("The service tier provided is invalid for this model.")


def reserved_tier(asked: Asked) -> Refusal | None:
    """Refuse capacity that nobody has reserved: envoyproxy/ai-gateway#1749."""
    reserved = asked.body.get("serviceTier", {}).get("type") == "reserved"
    return refuse("Reservation not found.") if reserved else None


def latency(asked: Asked) -> Refusal | None:
    """Refuse a faster latency that a model lacks in a region: guide "Optimize model inference for latency"."""
    fast = asked.body.get("performanceConfig", {}).get("latency") == "optimized"
    return refuse("Latency optimized inference is not supported for this model in region us-east-1.") if fast else None


def no_such_arn(asked: Asked) -> Refusal | None:
    """Refuse an ARN in words that repeat it, as AWS's messages of resources do."""
    arn = asked.path.split("/")[2].replace("%3A", ":").replace("%2F", "/")
    text = f"The provided model identifier {arn} can't be invoked by account 123456789012 with these tools."
    return refuse(text) if arn.startswith("arn:") else None

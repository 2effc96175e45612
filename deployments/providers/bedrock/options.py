"""What goes to Bedrock's Converse beside the chat: a guardrail, a service tier, a latency, who asks. Pure.

Sources: AWS, API reference, Converse and ConverseStream; botocore's service model for what a member may hold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.openai_api.json_types import JsonDict, JsonObject

TIER, LATENCY = "serviceTier", "performanceConfig"
_HINTS: Mapping[str, re.Pattern[str]] = {
    # NousResearch/hermes-agent#34476 and envoyproxy/ai-gateway#1749: what Bedrock says of a tier that a model lacks.
    TIER: re.compile(r"service[ _]?tier|reservation not found", re.IGNORECASE),
    LATENCY: re.compile(r"performance ?config|latency", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class NamedModel:
    """An ARN that has a name, and the vendor's id of the model behind it."""

    arn: str
    model: str


@dataclass(frozen=True, slots=True)
class ConverseOptions:
    """What a configuration sets for each chat of a provider. `guardrail` has the configuration's own keys."""

    guardrail: JsonObject | None = None
    service_tier: str | None = None
    latency: str | None = None


NO_OPTIONS = ConverseOptions()


def add_options(
    arguments: JsonDict, options: ConverseOptions, body: JsonObject, caller: Mapping[str, str] | None, *, stream: bool
) -> None:
    """Add to Converse's arguments what the options say. A tier that the request asks for stays."""
    if options.guardrail is not None:
        arguments["guardrailConfig"] = _guardrail(options.guardrail, stream=stream)
    if options.service_tier is not None and TIER not in arguments:
        arguments[TIER] = {"type": "default" if body.get("service_tier") == "default" else options.service_tier}
    if options.latency is not None:
        arguments[LATENCY] = {"latency": options.latency}
    if caller:
        arguments["requestMetadata"] = {name: _as_metadata(value) for name, value in caller.items()}


def _guardrail(wanted: JsonObject, *, stream: bool) -> JsonDict:
    made = {"guardrailIdentifier": wanted["id"], "guardrailVersion": wanted["version"]}
    if "trace" in wanted:
        made["trace"] = wanted["trace"]
    if stream and "stream_processing_mode" in wanted:
        made["streamProcessingMode"] = wanted["stream_processing_mode"]
    return made


# botocore, RequestMetadata: keys and values of at most 256 characters of these.
_LONGEST = 256
_OTHER = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]", re.ASCII)


def _as_metadata(value: str) -> str:
    """Return a value as Converse takes it. A character that it refuses becomes `_`."""
    return _OTHER.sub("_", value[:_LONGEST])


def refused_option(message: str, arguments: JsonObject) -> str | None:
    """Return the member of a request that is only about speed and price, and that Bedrock's message refuses, if any."""
    return next((name for name, words in _HINTS.items() if name in arguments and words.search(message)), None)


def tier_in(answer: JsonObject) -> str | None:
    """Return the tier that an answer, or a stream's last event, says has served it, as prices know it.

    A faster latency has a price of its own (AWS, Bedrock pricing: latency-optimized inference), and counts as the tier
    `optimized` where no other is told.
    """
    tier = (answer.get(TIER) or {}).get("type")
    if tier in (None, "default") and (answer.get(LATENCY) or {}).get("latency") == "optimized":
        return "optimized"
    return tier if isinstance(tier, str) else None


_ARN = re.compile(r"arn:aws[a-z-]*:[^\s'\"`()\[\]{}<>,;]+")
_ACCOUNT = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
HIDDEN = "(hidden)"


def without_accounts(message: str, names: Mapping[str, str]) -> str:
    """Return a message of AWS without ARNs and numbers of accounts. `names` has the names of ARNs that have one."""

    def named(found: re.Match[str]) -> str:
        arn = found[0].rstrip(".:")
        return names.get(arn, HIDDEN) + found[0][len(arn) :]

    return _ACCOUNT.sub(HIDDEN, _ARN.sub(named, message))

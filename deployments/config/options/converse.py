"""What Bedrock's Converse may be given beside the chat: names of ARNs, guardrails, tiers, metadata. Pure.

The forms are those of botocore's service model, in which AWS says what each member may hold.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from deployments.config.base.section import Section
from deployments.config.base.values import ModelId, matches
from deployments.validation import wrong

# botocore, ConversationalModelId: the ARNs that a chat with messages may go to. A prompt's ARN has messages of its own.
_BEDROCK = (
    r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:(:foundation-model/[a-zA-Z0-9.:-]+|[0-9]{12}:("
    r"custom-model/[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}/[a-z0-9]{12}"
    r"|(imported-model|provisioned-model|custom-model-deployment)/[a-z0-9]{12}"
    r"|(inference-profile|application-inference-profile|(default-)?prompt-router)/[a-zA-Z0-9.:-]+))"
)
_SAGEMAKER = r"arn:aws:sagemaker:[a-z0-9-]+:[0-9]{12}:endpoint/[a-zA-Z0-9-]+"
_NO_ARN = (
    "is no ARN of an inference profile, a prompt router, a provisioned, custom, imported or foundation model, or an "
    "endpoint of SageMaker"
)
ModelArn = Annotated[str, matches(f"({_BEDROCK}|{_SAGEMAKER})", _NO_ARN)]
ARN_IN_ROW = "an ARN tells an account's number: give it a name under this provider's `arns`, and write the name here"


def _check_no_arn(name: str) -> str:
    if name.startswith("arn:"):
        raise wrong("must be a name, and the ARN its value")
    return name


class NamedArn(Section):
    """An ARN, and the model behind it, by whose rules its requests are written; without it, the name's own."""

    arn: ModelArn
    model: Annotated[ModelId, AfterValidator(_check_no_arn)] | None = None


def _read_arn(value: object) -> object:
    return {"arn": value} if isinstance(value, str) else value


ArnName = Annotated[ModelId, AfterValidator(_check_no_arn)]
Arn = Annotated[NamedArn, BeforeValidator(_read_arn)]


def _read_version(value: object) -> object:
    """Return a number, as YAML reads `1`, as the text that it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Guardrail(Section):
    """A guardrail of Bedrock. Both `id` and `version` are needed: with one alone Converse would run without it."""

    # botocore, GuardrailIdentifier and GuardrailVersion.
    id: Annotated[
        str,
        matches(
            r"[a-z0-9]{1,2048}|arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+",
            "is neither the id of a guardrail nor its ARN",
        ),
    ]
    version: Annotated[
        str, matches(r"[1-9][0-9]{0,7}|DRAFT", "must be a number, or DRAFT"), BeforeValidator(_read_version)
    ]
    trace: Literal["enabled", "disabled", "enabled_full"] | None = None
    stream_processing_mode: Literal["sync", "async"] | None = None


Tier = Literal["default", "flex", "priority", "reserved"]  # botocore, ServiceTierType
Latency = Literal["standard", "optimized"]  # botocore, PerformanceConfigLatency
CallerPart = Literal["tenant", "agent", "request_id"]


class ConverseOptions(Section):
    """The settings of a provider that is asked by Converse.

    `arns` names what has an ARN: rows, prices, answers, metrics and the ledger have the name alone.
    """

    arns: dict[ArnName, Arn] = Field(default_factory=dict)
    guardrail: Guardrail | None = None
    service_tier: Tier | None = None
    latency: Latency | None = None
    request_metadata: list[CallerPart] = Field(default_factory=list)

    def base_models(self) -> Mapping[str, str]:
        return {name: named.model for name, named in self.arns.items() if named.model is not None}

    def objection(self, model: str) -> str | None:
        return ARN_IN_ROW if model.startswith("arn:") else None

    def tells_callers(self) -> frozenset[str]:
        return frozenset(self.request_metadata)

    def usual_tier(self) -> str | None:
        return self.service_tier

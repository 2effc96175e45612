"""What has become of a request's targets so far: the memory of its failover. Pure.

The request's record hears of the same and is told to people; it decides nothing.
"""

import re
from collections.abc import Collection

from msgspec import Struct, field

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import Skipped, Target, model_of, provider_of
from deployments.errors import INTERNAL_ERROR, OF_ONE_TIER, UNFIT
from deployments.telemetry.request_record import RequestRecord

# A provider's 400: the request is wrong, or it is more than this tier can do. A policy's refusal is none of them.
REFUSALS = OF_ONE_TIER | {"bad_request"}


class Tried(Struct):
    """`failures` are the targets whose attempts have failed, in order; `left_out` those that could not be asked.

    A target that can't take the request at all is in neither.
    """

    record: RequestRecord
    failures: list[tuple[Target, Outcome]] = field(default_factory=list)
    left_out: list[Target] = field(default_factory=list)

    def fail(self, target: Target, outcome: Outcome) -> None:
        self.failures.append((target, outcome))

    def skip(self, skipped: tuple[Skipped, ...]) -> None:
        """Note targets that can't be asked now."""
        self.left_out += [s.target for s in skipped]
        self.record.skip(skipped)

    def pass_over(self, target: Target, why: str) -> None:
        """Note a target that can't take this request at all."""
        if not f"skipped: {why}".startswith(UNFIT):
            self.left_out.append(target)
        self.record.pass_over(target, why)

    def spoil(self, target: Target) -> None:
        """Note a target for which a bug of ours spoilt the request: it can't be asked."""
        self.fail(target, Outcome("internal_error", message=INTERNAL_ERROR))
        self.record.pass_over(target, "internal_error")

    @property
    def first(self) -> tuple[Target, Outcome] | None:
        """The first failure that was not the caller's own fault."""
        return next((failure for failure in self.failures if failure[1].ending.guilt is not Guilt.CALLER), None)

    @property
    def refusal(self) -> Outcome | None:
        """The first refusal of the request; None if it was not refused."""
        return next((outcome for _, outcome in self.failures if outcome.kind in REFUSALS), None)

    @property
    def refused_alike(self) -> bool:
        """Return whether the last refusal is that of an earlier tier of another vendor: then the request is wrong.

        Only a fault of the request itself is one fault. That two tiers lack a feature, or have limits, says nothing of
        a third one, and a field that holds nearly everything has room for two faults.
        """
        target, last = self.failures[-1]
        if not _of_the_request(last):
            return False
        return any(
            _of_the_request(outcome)
            and outcome.param == last.param
            and provider_of(earlier) != provider_of(target)
            and model_of(earlier) != model_of(target)
            for earlier, outcome in self.failures[:-1]
        )

    def only(self, kinds: Collection[str]) -> bool:
        """Return whether every target that could take the request failed in one of these ways, with none left out."""
        return not self.left_out and all(outcome.kind in kinds for _, outcome in self.failures)


# Fields that hold nearly everything, and those whose bounds each model has for itself.
_COARSE = frozenset(
    {"messages", "body", "tools", "model", "input", "prompt", "id", "max_tokens", "max_completion_tokens"}
)
_OWN = re.compile(
    r"unsupported|not support|not (?:enabled|available|allowed|permitted)|(?:this|that|the) model|only supports?"
    r"|too (?:long|large|big|many|short|small|high|low|few)|exceed|limit|length|window|size|count|at (?:most|least)"
    r"|maximum|minimum|between|range|above_|below_|less than|greater than|[<>]=?|higher|lower|up to",
    re.IGNORECASE,
)


def _of_the_request(refusal: Outcome) -> bool:
    """Return whether a tier refuses what the request says, and not what is only too much for this tier."""
    if refusal.kind != "rejected" or refusal.param is None or refusal.param in _COARSE:
        return False
    return _OWN.search(f"{refusal.code or ''} {refusal.message}") is None

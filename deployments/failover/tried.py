"""What has become of a request's targets so far: the memory of its failover. Pure.

The request's record hears of the same and is told to people; it decides nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import Skipped, Target, model_of, provider_of
from deployments.errors import OF_ONE_TIER, UNFIT
from deployments.telemetry.request_record import RequestRecord

# A provider's 400: the request is wrong, or it is more than this tier can do. A policy's refusal is none of them.
REFUSALS = OF_ONE_TIER | {"bad_request"}


@dataclass(slots=True)
class Tried:
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

        That a tier has no such feature says nothing of the others.
        """
        target, last = self.failures[-1]
        if last.kind != "rejected" or last.param is None or _lacks(last):
            return False
        return any(
            outcome.kind == "rejected"
            and outcome.param == last.param
            and not _lacks(outcome)
            and provider_of(earlier) != provider_of(target)
            and model_of(earlier) != model_of(target)
            for earlier, outcome in self.failures[:-1]
        )

    def only(self, kinds: Collection[str]) -> bool:
        """Return whether every target that could take the request failed in one of these ways, with none left out."""
        return not self.left_out and all(outcome.kind in kinds for _, outcome in self.failures)


def _lacks(refusal: Outcome) -> bool:
    """Return whether the tier only lacks what was asked of it."""
    return "unsupported" in (refusal.code or "") or "not support" in refusal.message

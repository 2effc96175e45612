"""What has become of a request's targets so far: the memory of its failover. Pure.

The request's record hears of the same and is told to people; it decides nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import Skipped, Target
from deployments.errors import UNFIT
from deployments.telemetry.request_record import RequestRecord


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

    def only(self, kinds: Collection[str]) -> bool:
        """Return whether every target that could take the request failed in one of these ways, with none left out."""
        return not self.left_out and all(outcome.kind in kinds for _, outcome in self.failures)

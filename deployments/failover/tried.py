"""What has become of a request's targets so far: the memory of its failover. Pure.

The request's record hears of the same and is told to people; it decides nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import Skipped
from deployments.errors import UNFIT
from deployments.telemetry.request_record import RequestRecord


@dataclass(slots=True)
class Tried:
    """`made` attempts have begun; `asked` are the targets whose attempts have failed, in order."""

    record: RequestRecord
    made: int = 0
    asked: list[tuple[str, Outcome]] = field(default_factory=list)
    _left_out: list[str] = field(default_factory=list)  # skipped, but not for what they can't do

    def begin(self) -> int:
        """Return the number of the attempt that begins now."""
        self.made = self.record.made = self.made + 1
        return self.made

    def fail(self, target: str, outcome: Outcome) -> None:
        self.asked.append((target, outcome))

    def skip(self, skipped: tuple[Skipped, ...]) -> None:
        """Note targets that can't be asked now."""
        self._left_out += [s.target for s in skipped]
        self.record.skip(skipped)

    def pass_over(self, target: str, why: str) -> None:
        """Note a target that can't take this request at all."""
        if not f"skipped: {why}".startswith(UNFIT):
            self._left_out.append(target)
        self.record.pass_over(target, why)

    @property
    def first(self) -> Outcome | None:
        """The first failure that was not the caller's own fault."""
        return next((o for _, o in self.asked if o.ending.guilt is not Guilt.CALLER), None)

    @property
    def last(self) -> Outcome | None:
        return self.asked[-1][1] if self.asked else None

    @property
    def target(self) -> str:
        """The target that was asked last."""
        return self.asked[-1][0]

    @property
    def left_out(self) -> Collection[str]:
        return self._left_out

    def only(self, kinds: Collection[str]) -> bool:
        """Return whether every target that could take the request failed in one of these ways, with none left out."""
        return not self._left_out and all(outcome.kind in kinds for _, outcome in self.asked)

"""How a stream that can't go on by itself is carried on elsewhere: what it asks of the failover. No Ray."""

from typing import TYPE_CHECKING, Optional, Protocol

from actors.breaker.outcomes import Outcome

if TYPE_CHECKING:
    from deployments.failover.streams.answer import StreamAnswer
    from deployments.failover.streams.opening import Opening


class Elsewhere(Protocol):
    """The other targets of one request, for its stream."""

    async def restart(self, target: str, outcome: Outcome) -> Optional["StreamAnswer"]:
        """Return another target's answer from its beginning, after `target`'s ended so; None if none can give one."""
        ...

    async def go_on(self, target: str, outcome: Outcome, text: str, used: int) -> "tuple[StreamAnswer, Opening] | None":
        """Return another target's answer that goes on with a text, and what is to prove it; None if none can.

        `used` are the tokens that the text took.
        """
        ...

    async def beside(self, text: str | None, used: int) -> "tuple[StreamAnswer, Opening | None] | None":
        """Return an answer as of `restart`, or of `go_on` with a text, while the first one is only silent.

        None if no second leg may be sent, or it has failed. `take_over` or `call_off` it.
        """
        ...

    def take_over(self, target: str, outcome: Outcome) -> None:
        """Take it that the one beside goes on, and that the answer of `target` has ended so."""
        ...

    def end_beside(self) -> None:
        """End the attempt of the one beside at once: the first one has spoken. It is let go of after that."""
        ...

    def call_off(self, failed: Outcome | None) -> None:
        """Take it that the one beside is not used: it is not needed, or its answer has `failed` so."""
        ...

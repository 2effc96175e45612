"""How many calls each replica has under way, as far as this process knows. No Ray."""

from dataclasses import dataclass, field

FRESH_SECONDS = 5.0  # other processes send calls too: what is older is not known any more


@dataclass(slots=True)
class Loads:
    _of: dict[str, tuple[int, float]] = field(default_factory=dict)

    def learn(self, replica: str, calls: int, now: float) -> None:
        """A replica has said so itself."""
        self._of[replica] = (calls, now)
        if len(self._of) > 1000:  # replicas that are gone
            self._of = {name: told for name, told in self._of.items() if now - told[1] < FRESH_SECONDS}

    def begin(self, replica: str) -> None:
        """One more call is on its way there."""
        self._count(replica, 1)

    def end(self, replica: str) -> None:
        """One of its calls has ended."""
        self._count(replica, -1)

    def _count(self, replica: str, more: int) -> None:
        if (told := self._of.get(replica)) is not None:
            self._of[replica] = (max(0, told[0] + more), told[1])

    def of(self, replica: str, now: float) -> int:
        """Of one that is not known none: so it is asked, and known."""
        calls, at = self._of.get(replica, (0, now))
        return calls if now - at < FRESH_SECONDS else 0


LOADS = Loads()  # Serve makes the router by itself: this is where it and the hop meet

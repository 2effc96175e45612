"""How many calls each replica has in flight, as far as this process knows. No Ray."""

from dataclasses import dataclass, field

FULL = 2**31  # more calls than any replica takes
FRESH_SECONDS = 5.0  # other processes send calls too, so an older count is not used


@dataclass(slots=True)
class InFlightCounts:
    _counts: dict[str, tuple[int, float]] = field(default_factory=dict)  # by replica: calls, and when it reported them

    def learn(self, replica: str, calls: int, now: float) -> None:
        """Store the count that a replica has reported itself."""
        self._counts[replica] = (calls, now)
        if len(self._counts) > 1000:  # replicas that no longer exist
            self._counts = {name: known for name, known in self._counts.items() if now - known[1] < FRESH_SECONDS}

    def avoid(self, replica: str, now: float) -> None:
        """Count a silent replica as full for a while, or until it reports its calls."""
        self.learn(replica, FULL, now)

    def begin(self, replica: str) -> None:
        """Count one more call that is sent to the replica."""
        self._add(replica, 1)

    def end(self, replica: str) -> None:
        """Count one call of the replica as ended."""
        self._add(replica, -1)

    def _add(self, replica: str, more: int) -> None:
        if (known := self._counts.get(replica)) is not None:
            self._counts[replica] = (max(0, known[0] + more), known[1])

    def of(self, replica: str, now: float) -> int:
        """Return the replica's calls in flight. An unknown one has 0: so it gets a call, and its count is learned."""
        calls, at = self._counts.get(replica, (0, now))
        return calls if now - at < FRESH_SECONDS else 0


IN_FLIGHT = InFlightCounts()  # Serve constructs the router itself, so the router and PooledTransport share this object

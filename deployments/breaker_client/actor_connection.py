"""How one ingress replica reaches the breaker actor, and whether it can. No Ray.

The actor is a function `call(method, *arguments)`. It must not know what the methods do.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from actors.metrics import Meter
from deployments.breaker_client.stalls import LAG

ActorCall = Callable[..., Awaitable[Any]]

AWAY_SECONDS = 5.0  # after this long without an answer the actor counts as away


class ActorConnection:
    """`connect` finds or creates the actor. `latency` is how long it takes to answer, in seconds."""

    def __init__(self, connect: Callable[[], Awaitable[ActorCall]], clock: Callable[[], float], meter: Meter):
        self._connect = connect
        self._clock = clock
        self._actor: ActorCall | None = None
        self._heard_at = self._listened_at = clock()
        self.meter = meter
        self.latency = 0.0

    @property
    def connected(self) -> bool:
        return self._actor is not None

    @property
    def age(self) -> float:
        """Return how many seconds ago the actor last answered."""
        return self._clock() - self._heard_at

    @property
    def cut_off(self) -> bool:
        """Return whether the actor can't be asked. While this process did not listen, silence proves nothing."""
        if self._actor is None:
            return True
        now = self._clock()
        return now - self._heard_at > AWAY_SECONDS and now - self._listened_at <= LAG

    async def open(self) -> None:
        """Connect, unless there is a connection. Raises what `connect` raises."""
        if self._actor is None:
            self._actor = await self._connect()

    def drop(self) -> None:
        """Forget the actor: the next `open` looks for it again."""
        self._actor = None

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor. Raises ConnectionError while it is away, and what the method raises."""
        if self._actor is None:
            raise ConnectionError("the breaker actor is away")
        began = self._clock()
        try:
            answer = await self._actor(method, *arguments)
        except BaseException:
            self.meter.add("breakwater_actor_calls_total", (method, "failed"))
            raise
        self.meter.add("breakwater_actor_calls_total", (method, "ok"))
        self._heard_at = self._clock()
        if method != "watch":  # the long poll is answered when there is news: its time is no latency
            took = self._heard_at - began
            self.latency = max(took, 0.7 * self.latency + 0.3 * took)
        return answer

    def listen(self, now: float) -> None:
        """Note that this process listens; to be called every tenth of a second."""
        if (gap := now - self._listened_at) > LAG:
            self._heard_at += gap  # in the gap an answer could not have been noticed
        self._listened_at = now

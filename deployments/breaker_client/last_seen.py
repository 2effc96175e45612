"""What an ingress can say of each target by itself, without the breaker actor. Pure."""

from collections.abc import Mapping

from actors.breaker.circuit import State
from actors.breaker.messages import SeenHealth
from actors.breaker.plan import CircuitSnapshot, Target


def last_seen(snapshot: Mapping[Target, CircuitSnapshot], now: float) -> dict[Target, SeenHealth]:
    """Return each target's state as it was last seen. Its figures are the actor's: here they are 0."""
    return {
        target: {
            "ms": 0.0,
            "last_error": None,
            "consecutive_failures": 0,
            "ok": 0,
            "requests": 0,
            "state": seen.state.value,
            "isolated": seen.isolated(now),
            "probing": seen.probing(now),
            "epoch": seen.epoch,
            "retry_in_seconds": round(max(0.0, seen.open_until - now), 3) if seen.state is State.OPEN else 0.0,
        }
        for target, seen in snapshot.items()
    }

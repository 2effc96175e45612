"""What an ingress can say of each target by itself, without the breaker actor. Pure."""

from collections.abc import Mapping
from typing import Any

from actors.breaker.circuit import State
from actors.breaker.plan import Seen


def last_seen(sight: Mapping[str, Seen], now: float) -> dict[str, dict[str, Any]]:
    """What an ingress can say of each target by itself: states, and no figures."""
    unknown = {"ms": 0.0, "last_error": None, "consecutive_failures": 0} | dict.fromkeys(("ok", "requests"), 0)
    return {
        target: {
            **unknown,
            "state": seen.state.value,
            "isolated": seen.isolated(now),
            "probing": seen.probing(now),
            "epoch": seen.epoch,
            "retry_in_seconds": round(max(0.0, seen.open_until - now), 3) if seen.state is State.OPEN else 0.0,
        }
        for target, seen in sight.items()
    }

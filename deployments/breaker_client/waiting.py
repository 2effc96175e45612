"""Whether a request that nobody has answered should wait for a probe, and for how long. Pure.

`awaited(target)` says whether a permit for it is asked for, or was refused just now; `first(target)` whether nobody
waits for it longer.
"""

from collections.abc import Callable, Mapping, Sequence

from actors.breaker.circuit import State
from actors.breaker.plan import UNKNOWN_CIRCUIT, CircuitSnapshot, Target

View = Mapping[Target, CircuitSnapshot]


def seconds_to_wait(
    view: View,
    now: float,
    targets: Sequence[Target],
    awaited: Callable[[Target], bool],
    seconds: float,
    probe_seconds: float,
) -> tuple[float, float]:
    """Return how long it is worth to wait for one of these, 0 if it is not, and after how long the first is due.

    It is while one of them is due or being probed, for `probe_seconds`, or may be probed early, for `seconds`.
    """
    known = {t: view[t] for t in targets if t in view and not view[t].isolated(now)}
    if any(s.to_be_probed(now) or awaited(target) for target, s in known.items()):
        seconds = probe_seconds
    elif not any(s.panicky for s in known.values()):
        return 0.0, 0.0
    return seconds, min((s.open_until - now for s in known.values() if s.rests(now)), default=seconds)


def may_ask(
    view: View,
    now: float,
    targets: Sequence[Target],
    awaited: Callable[[Target], bool],
    first: Callable[[Target], bool],
) -> bool:
    """Return whether one of these is closed now, or may be probed and nobody waits for it longer."""
    for target in targets:
        s = view.get(target, UNKNOWN_CIRCUIT)
        if s.isolated(now) or s.probing(now):
            continue
        free = first(target) and not awaited(target)
        if s.state is State.CLOSED or (free and (s.panicky or not s.rests(now))):
            return True
    return False

"""Ask the target again that has a conversation's prompt in its cache. Pure; time is an argument.

A provider keeps the prompt of the last turn for some minutes, so the next turn is cheaper and faster there. A session
is named by its client, and counts for one tenant and key, and one row. What it has is a preference among targets that
are allowed and healthy: it brings none back, and keeps none.

- A served answer binds it, so a failover moves it. A target that fails is forgotten; a call that was cancelled says
  nothing.
- The row's order is the operator's choice, so the session returns to the row's first target as long as its prompt may
  be in the cache there too: that costs nothing. Else it stays where its prompt is, for `longest` seconds at most.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.newest import Newest

MOST_SESSIONS = 10_000  # that one replica remembers


@dataclass(slots=True)
class _Session:
    """`served` is when each target last answered it; `away_since`, when the row's first target ceased to."""

    home: str
    served: dict[str, float] = field(default_factory=dict)
    away_since: float | None = None


class Affinity:
    """`seconds` is how long a prompt is taken to be in a cache since it was used last; 0: no session is remembered."""

    def __init__(self, seconds: float = 300.0, longest: float = 3600.0):
        self._seconds, self._longest = seconds, longest
        self._sessions: Newest[bytes, _Session] = Newest(MOST_SESSIONS)

    def __len__(self) -> int:
        return len(self._sessions)

    def preferred(self, key: bytes, row: Sequence[str], now: float) -> str | None:
        """Return which of the row's targets should be asked first; None if the session has none."""
        if not self._seconds:
            return None
        session = self._of(key, row[0])
        session.home = row[0]
        away = now - session.away_since if session.away_since is not None else 0.0
        warm = [target for target in row if now - session.served.get(target, -self._seconds) < self._seconds]
        if not warm or (warm[0] != session.home and away > self._longest):
            return None
        return warm[0]

    def served(self, key: bytes, target: str, now: float) -> None:
        """Note that the target has answered: the session's prompt is in its cache now."""
        if not self._seconds:
            return
        session = self._of(key, target)
        session.served = {t: at for t, at in session.served.items() if now - at < self._seconds} | {target: now}
        if target == session.home:
            session.away_since = None
        elif session.away_since is None:
            session.away_since = now

    def failed(self, key: bytes, target: str) -> None:
        """Forget a target that has failed. The row's first one is asked first in any case."""
        session = self._sessions.get(key)
        if session is not None and target != session.home:
            session.served.pop(target, None)

    def _of(self, key: bytes, home: str) -> _Session:
        """Return the session, which is the newest now. The oldest is forgotten where there are too many."""
        session = self._sessions.get(key) or _Session(home)
        self._sessions[key] = session
        return session


def session_key(tenant: str | None, key_name: str | None, row: str, session: str) -> bytes:
    """Return the name of a session, which says nothing of who or what it is. No two tenants or keys share one."""
    parts = (part.encode(errors="replace") for part in (tenant or "", key_name or "", row, session))
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()

"""Which callers a target has answered with nothing of late, as one ingress has seen it. Pure.

A model may have no word for one client's prompts, again and again, and be well. So an empty answer says something of
its target only if another caller had one too. Callers are told apart by key or tenant: without either all are one,
and then empty answers move no circuit. The request goes on to the next tier in any case.
"""

from deployments.newest import Newest

REMEMBERED_SECONDS = 300.0
TARGETS = 1000  # a client may name any model of a provider


class EmptyAnswers:
    def __init__(self) -> None:
        self._seen = Newest[str, dict[str | None, float]](TARGETS)

    def note(self, target: str, caller: str | None, now: float) -> bool:
        """Note an empty answer; return whether another caller has had one of this target. `now` is in seconds."""
        known = self._seen.get(target, {})
        seen = {other: at for other, at in known.items() if at > now - REMEMBERED_SECONDS and other != caller}
        self._seen[target] = dict([*seen.items(), (caller, now)][-TARGETS:])
        return bool(seen)

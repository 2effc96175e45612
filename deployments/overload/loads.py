"""The limits of all targets that have one, and the line of those who wait for them. No Ray."""

import math
from collections.abc import Collection, Mapping

from actors.breaker.plan import provider_of
from deployments.overload.limit import Limit
from deployments.overload.line import Line, Priority, Ticket


class Loads:
    """`of_providers`: how many calls a provider's targets may have at once; `auto` finds it out.

    Those that are not named have no limit.
    """

    def __init__(self, of_providers: Mapping[str, int | str] | None = None):
        self._of_providers = of_providers or {}
        self._limits: dict[str, Limit] = {}
        self.line = Line()

    def __bool__(self) -> bool:
        return bool(self._of_providers)

    def limit(self, target: str) -> Limit | None:
        """Return a target's limit; None if its provider has none."""
        if (found := self._limits.get(target)) is None:
            wanted = self._of_providers.get(provider_of(target))
            if wanted is None:
                return None
            found = self._limits[target] = Limit(wanted if isinstance(wanted, int) else None)
        return found

    def has_room(self, target: str) -> bool:
        """Return whether a target may have one call more now."""
        limit = self.limit(target) if self._of_providers else None
        return limit is None or limit.has_room

    def calls(self, targets: Collection[str]) -> float:
        """Return how many calls these targets may have at once."""
        found = [self.limit(target) for target in targets]
        return sum(math.inf if limit is None else limit.value for limit in found)

    def seconds(self, targets: Collection[str]) -> float:
        """Return how many seconds a call of the quickest of these targets takes, about."""
        return min((limit.seconds for target in targets if (limit := self.limit(target)) is not None), default=1.0)

    def known(self) -> Mapping[str, float]:
        """Return the limits that are in force, by target."""
        return {target: limit.value for target, limit in self._limits.items() if limit.value != math.inf}

    def may_go(self, priority: Priority, target: str, ticket: Ticket | None = None) -> bool:
        """Return whether a request may ask a target now: there is room, and nobody waits who comes before it."""
        return self.has_room(target) and not (len(self.line) and self.line.is_behind(priority, target, ticket))

"""How long the translation of a schema may take, in steps: each process comes to the same end. Pure."""

from collections.abc import Mapping

from deployments.json_schema.flat import Raw

MOST_STEPS = 2000  # of one translation: about 20 ms, for which an ingress serves nobody else


class TooManySteps(Exception):
    """A translation has taken as long as it may."""


class Steps:
    """The steps that are left of one translation, over all its attempts."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def take(self, raw: Raw) -> None:
        """Count a look at a schema. Raises TooManySteps."""
        inner = raw.values() if isinstance(raw, Mapping) else ()
        self._left -= 1 + sum(len(value) for value in inner if isinstance(value, (list, dict))) // 4
        if self._left < 0:
            raise TooManySteps

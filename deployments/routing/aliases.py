"""Other names of model rows: clients send names of vendors' models that no configuration has as rows. Pure."""

from collections.abc import Mapping


class Aliases:
    """`rows` maps names, and patterns of names, to rows. In a pattern each `*` stands for any text, or for none."""

    def __init__(self, rows: Mapping[str, str]):
        self._exact = {name: row for name, row in rows.items() if "*" not in name}
        patterns = ((name, row) for name, row in rows.items() if "*" in name)
        # Of two patterns that match, the one that says more is meant; of two that say as much, the first.
        self._patterns = sorted(((name.split("*"), row) for name, row in patterns), key=_vagueness)

    @property
    def names(self) -> list[str]:
        """Return the names that are no patterns."""
        return list(self._exact)

    def named(self, model: str) -> str | None:
        """Return the row that has this as another name."""
        return self._exact.get(model)

    def matching(self, model: str) -> str | None:
        """Return the row of the pattern that says most of those that match."""
        return next((row for parts, row in self._patterns if _matches(parts, model)), None)


def _vagueness(pattern: tuple[list[str], str]) -> int:
    return -sum(map(len, pattern[0]))


def _matches(parts: list[str], name: str) -> bool:
    """Return whether the parts of a pattern are in the name, in their order. Linear in the name for each part."""
    first, *middle, last = parts
    at = len(first)
    if len(name) < at + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    end = len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True

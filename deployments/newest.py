"""A dict with a bound, for what clients can name without end. Pure."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Newest(dict[K, V]):
    """Holds at most `most` values, those that were set last: to set a value makes it the newest, to read it does not.

    Set them one by one: what goes around `__setitem__`, as `update` and `setdefault` do, is not counted.
    """

    __slots__ = ("_most",)

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self._most:
            del self[next(iter(self))]

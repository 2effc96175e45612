"""What need not be kept is deleted in small pieces: old requests, figures of old days, and minutes of days ago. Blocks.

A clock that is ahead must not delete what is new, so no time is later than the newest row.
"""

from collections.abc import Callable, Iterator
from functools import partial

from actors.ledger.messages import Keep
from actors.ledger.rows import day_of
from actors.ledger.slots import KEPT_MS, SLOT_MS
from actors.ledger.store import DAY_MS, LedgerStore

AT_ONCE = 500  # requests in one transaction, of some 30 ms
SLOTS_AT_ONCE = 20  # with a hundred times each

Piece = Callable[[], bool]  # deletes a piece, and returns whether there may be another


def pieces(opened: Callable[[], LedgerStore], wall: Callable[[], float], keep: Keep) -> Iterator[Piece]:
    """Yield what deletes each sort. `opened` returns the store, `wall` the seconds since the epoch."""

    def now(store: LedgerStore) -> int:
        return min(int(wall() * 1000), store.newest())

    def requests(days: int) -> bool:
        store = opened()
        return store.purge((now(store) // DAY_MS - days) * DAY_MS, AT_ONCE) == AT_ONCE

    def figures(days: int) -> bool:
        store = opened()
        return store.purge_days(day_of((now(store) // DAY_MS - days) * DAY_MS), AT_ONCE) == AT_ONCE

    def slots() -> bool:
        store = opened()
        return store.purge_slots((now(store) - KEPT_MS) // SLOT_MS, SLOTS_AT_ONCE) == SLOTS_AT_ONCE

    if (days := keep["requests"]) is not None:
        yield partial(requests, days)
    if (days := keep["rollups"]) is not None:
        yield partial(figures, days)
    yield slots

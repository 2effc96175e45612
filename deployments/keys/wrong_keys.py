"""What wrong keys cost those who send them: time. A right key never waits, so nobody is locked out. No Ray.

Behind HAProxy all callers may have one address, its own: then wrong keys of all wait alike, and right ones not at all.
"""

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from dataclasses import dataclass

log = logging.getLogger(f"ray.serve.{__name__}")

FREE = 5  # wrong keys of an address within MEMORY_SECONDS: people mistype
SHORTEST, LONGEST = 0.1, 2.0  # seconds; each further key doubles the wait
MEMORY_SECONDS = 60.0  # after the last wrong key an address is forgotten
MOST_ADDRESSES = 10_000
MOST_HELD = 100  # answers that wait; further ones are given at once, or waiting would be a way to fill a replica


@dataclass(slots=True)
class _Tally:
    wrong: int
    last: float  # monotonic


class WrongKeys:
    """Counts wrong keys by address, and holds back the answers."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[str, _Tally] = OrderedDict()  # the last seen at the end
        self.held = 0

    async def hold(self, address: str) -> None:
        """Count one wrong key of an address, and return when it may be answered."""
        seconds = self.count(_network(address), asyncio.get_running_loop().time())
        if seconds == 0 or self.held >= MOST_HELD:
            return
        self.held += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.held -= 1

    def count(self, address: str, now: float) -> float:
        """Count one wrong key, and return for how many seconds its answer is to wait."""
        tally = self._tallies.pop(address, None)
        if tally is None or now - tally.last > MEMORY_SECONDS:
            tally = _Tally(0, now)
        self._tallies[address] = tally
        tally.wrong, tally.last = tally.wrong + 1, now
        if len(self._tallies) > MOST_ADDRESSES:
            self._tallies.popitem(last=False)
        if tally.wrong <= FREE:
            return 0.0
        if tally.wrong == FREE + 1:
            log.warning("%s sends wrong keys: each further one is answered later, %g s at most", address, LONGEST)
        return float(min(LONGEST, SHORTEST * 2 ** min(tally.wrong - FREE - 1, 30)))


def _network(address: str) -> str:
    """Return an IPv4 address as it is, and of IPv6 the network that one customer has (RFC 6177)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))

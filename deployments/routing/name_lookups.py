"""Looks up the addresses of hosts that clients name, in threads of its own.

getaddrinfo can't be stopped, and who owns a name decides how long it takes. In asyncio's default threads, of which
there are a few, slow names of a stranger would hold up the names of all others, and whatever else runs there. So a
look-up has a thread of its own. All threads together are bounded, and so is what one caller and one site have of them:
a place is free again when its thread has ended, however long nobody waits for it any more.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence

SECONDS = 3.0  # for one look-up, its wait for a thread included
MOST, MOST_OF_CALLER, MOST_OF_SITE = 64, 16, 4

GetAddresses = Callable[[str, int], Sequence[str]]


def get_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host; may take as long as it likes. Raises OSError and UnicodeError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class NameLookups:
    """For one event loop. `get` is called in threads."""

    def __init__(self, get: GetAddresses = get_addresses, seconds: float = SECONDS):
        self._get, self._seconds = get, seconds
        self._sites, self._callers, self._all = _Places(MOST_OF_SITE), _Places(MOST_OF_CALLER), _Places(MOST)

    async def addresses(self, host: str, port: int, caller: str | None = None) -> Sequence[str]:
        """Return the addresses of a host. Raises OSError, also a TimeoutError, and UnicodeError.

        `caller` is who has named it, if that is known: callers without a name share what all have.
        """
        if _is_address(host):
            return [host]
        async with asyncio.timeout(self._seconds):
            release = await self._take(site_of(host), caller)
            return await self._begin(host, port, release)

    async def _take(self, site: str, caller: str | None) -> Callable[[], None]:
        """Wait for a place of the site, of the caller and among all, in this order: who waits holds up no other."""
        wanted = [(self._sites, site), *([(self._callers, caller)] if caller else []), (self._all, "")]
        with contextlib.ExitStack() as taken:
            for places, name in wanted:
                await places.acquire(name)
                taken.callback(places.release, name)
            return taken.pop_all().close

    def _begin(self, host: str, port: int, release: Callable[[], None]) -> "asyncio.Future[Sequence[str]]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def end(found: Sequence[str], error: Exception | None) -> None:
            release()
            if not answer.done():
                answer.set_result(found) if error is None else answer.set_exception(error)

        def work() -> None:
            try:
                found, error = self._get(host, port), None
            except Exception as raised:
                found, error = (), raised
            with contextlib.suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(end, found, error)

        try:
            # A daemon: no process waits at its end for a name.
            threading.Thread(target=work, name="name-lookup", daemon=True).start()
        except RuntimeError as error:
            end((), OSError(f"no thread for a look-up: {error}"))
        return answer


class _Places:
    """So many at once of each name. A name is forgotten when nobody uses it."""

    def __init__(self, most: int):
        self._most = most
        self._of: dict[str, asyncio.Semaphore] = {}
        self._users = Counter[str]()

    async def acquire(self, name: str) -> None:
        self._users[name] += 1
        try:
            await self._of.setdefault(name, asyncio.Semaphore(self._most)).acquire()
        except BaseException:
            self._leave(name)
            raise

    def release(self, name: str) -> None:
        self._of[name].release()
        self._leave(name)

    def _leave(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name], self._of[name]

    def __len__(self) -> int:
        return len(self._of)


def site_of(host: str) -> str:
    """Return the part of a name that one owner answers for, as far as the name itself tells: `x.example.co.uk`."""
    labels = host.split(".")
    short = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if short else -2 :])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

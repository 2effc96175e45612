"""A credential that is renewed beside the calls that use it: one fetch for all, and no call waits while it holds.

    token = Renewed("openai", in_thread(fetch))
    value = token.usable() or await token.get()

`usable` costs a look at the clock. A call waits only if there is no credential at all: before the first fetch has
ended, or if the source has failed until the last one expired. It waits for a fetch that is under way, not for the pause
between two fetches: other providers can answer meanwhile.
"""

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from actors.breaker.outcomes import NO_CREDENTIAL
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, failed, stalled
from deployments.providers.credentials.schedule import Fresh, Schedule
from deployments.secrecy import hide_secrets

log = logging.getLogger(f"ray.serve.{__name__}")

T = TypeVar("T")

FETCH_SECONDS = 60.0  # for one fetch: what a source tells later is not waited for
WAIT_SECONDS = 5.0  # that a call waits where there is no credential
DOUBT_SECONDS = 30.0  # after a fetch: what is refused then is not refused for its age
LONGEST_REASON = 300  # characters of an error that are logged

Fetch = Callable[[], Awaitable[Fresh[T]]]


@dataclass(frozen=True, slots=True)
class CredentialReport:
    """How a credential stands. `age` and `left` are in seconds, and None before the first has been fetched.

    `left` is negative once it has expired. `failures` are all failed fetches of this process.
    """

    age: float | None
    left: float | None
    failures: int


class Renewed(Generic[T]):
    """`name` says in the log whose credential it is. `fetch` returns a new one, or raises anything.

    `first` is a credential that is known already. `clock` returns seconds of the wall clock.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch[T],
        *,
        first: Fresh[T] | None = None,
        clock: Callable[[], float] = time.time,
        share: Callable[[], float] = random.random,
    ):
        self._name, self._fetch, self._clock, self._share = name, fetch, clock, share
        self._schedule: Schedule[T] = Schedule()
        self._quiet_until = -math.inf  # until then the held value is good, and nothing is due
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        if first is not None:
            self._turn_to(self._schedule.after_success(clock(), first, share()))

    def usable(self) -> T | None:
        """Return the credential, None if there is none. Start a fetch if one is due."""
        now = self._clock()
        if now < self._quiet_until:
            return self._schedule.held.value  # type: ignore[union-attr]
        self._begin()
        return self._schedule.value(now)

    async def get(self) -> T:
        """Return the credential, and wait if there is none. Raises AttemptFailed: `connect`, `stalled`.

        A server of credentials that is away will be back, so this is no `credential`, which says that a key is wrong.
        Why there is none is in the log alone: it may name accounts.
        """
        if (value := self.usable()) is not None:
            return value
        timer = DeadlineTimer()
        try:
            with timer.until(asyncio.get_running_loop().time() + WAIT_SECONDS):
                if (task := self._task) is not None:
                    await asyncio.wait({task})
        except TimeoutError:
            if timer.stalled:
                raise stalled() from None
            raise failed("connect", f"there was no credential within {WAIT_SECONDS:g} s", code=NO_CREDENTIAL) from None
        finally:
            timer.close()
        if (value := self._schedule.value(self._clock())) is None:
            raise failed(
                "connect", "no credential could be fetched: the log of its replica says why", code=NO_CREDENTIAL
            )
        return value

    def start(self) -> None:
        """Keep the credential fresh from now on, before any call needs it. Needs a running event loop."""
        self.usable()
        self._set_timer()

    def latest(self) -> T | None:
        """Return what was fetched last, even if it has just expired, and start nothing: for any thread.

        Who asks for it has asked `usable` or `get` before.
        """
        held = self._schedule.held
        return None if held is None else held.value

    def doubt(self) -> None:
        """Fetch the next credential soon: a vendor has refused the present one, which may have been revoked."""
        now = self._clock()
        if self._task is None and not self._schedule.failures and now - self._schedule.fetched_at >= DOUBT_SECONDS:
            self._turn_to(replace(self._schedule, due_at=now))
            self._begin()

    def report(self) -> CredentialReport:
        now, held = self._clock(), self._schedule.held
        if held is None:
            return CredentialReport(None, None, self._failures)
        return CredentialReport(now - self._schedule.fetched_at, held.expires_at - now, self._failures)

    async def close(self) -> None:
        """End the renewal. A fetch in a thread runs on, and nobody hears it."""
        self._drop_timer()
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})

    def _begin(self) -> None:
        if self._task is None and self._schedule.is_due(self._clock()):
            self._drop_timer()
            self._task = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        before, limit = self._schedule, asyncio.timeout(FETCH_SECONDS)
        fresh: Fresh[T] | None = None
        try:
            async with limit:
                fresh = await self._fetch()
            error = None if fresh.expires_at > self._clock() else "the source told a credential that has expired"
        except Exception as failure:
            error = f"no answer within {FETCH_SECONDS:g} s" if limit.expired() else reason_of(failure)
        finally:
            self._task = None
        now, share = self._clock(), self._share()
        if fresh is None or error is not None:
            self._turn_to(before.after_failure(now, share))
        else:
            self._turn_to(before.after_success(now, fresh, share))
        self._tell(error, before.failures)
        self._set_timer()

    def _turn_to(self, schedule: Schedule[T]) -> None:
        self._schedule = schedule
        held = schedule.held
        self._quiet_until = -math.inf if held is None else min(held.expires_at, schedule.due_at)

    def _tell(self, error: str | None, before: int) -> None:
        if error is None:
            if before:
                log.info("%s: the credential is renewed again, after %d failures.", self._name, before)
            return
        self._failures += 1
        now, held = self._clock(), self._schedule.held
        left = 0.0 if held is None else max(0.0, held.expires_at - now)
        holds = f"The one that is there holds for {left:.0f} s more" if left else "There is none"
        again = self._schedule.due_at - now
        log.warning("%s: no new credential: %s. %s. Next try in %.1f s.", self._name, error, holds, again)

    def _set_timer(self) -> None:
        self._drop_timer()
        if self._task is None and not math.isinf(self._schedule.due_at):
            loop, wait = asyncio.get_running_loop(), self._schedule.due_at - self._clock()
            self._timer = loop.call_later(max(wait, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        """Fetch what is due. The wall clock may have been moved since the timer was set: then it is set again."""
        self._timer = None
        self._begin()
        self._set_timer()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def reason_of(error: Exception) -> str:
    """Return an error of a source in one line that holds no secret."""
    if isinstance(error, AttemptFailed):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {hide_secrets(lines[0][:LONGEST_REASON])}".rstrip(": ")


def in_thread(fetch: Callable[[], Fresh[T]]) -> Fetch[T]:
    """Return a fetch that blocks as one that does not.

    Each fetch has a thread of its own: in the pool that the replica's other work uses, sources that hang would take all
    places.
    """

    async def run() -> Fresh[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Fresh[T]] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if done.done():
                return  # nobody waits any more
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = fetch()
            except Exception as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=work, name="credential", daemon=True).start()
        return await done

    return run

"""The ingress's end of the answers actor: claims, and the answers of other replicas. No Ray.

The first call makes the actor. A replica that leads runs asks once a second whether somebody wants to read them; with
that it says that it lives.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from actors.answers.exchange import Exchange
from actors.answers.messages import Claimed, Heard, Item, LeadingByKey
from deployments.idempotency.recording import Gone

ActorCall = Callable[..., Awaitable[Any]]
CALL_SECONDS = 10.0  # the actor is made within, by the first call
READ_SECONDS = 4.0  # a question that waits for news is answered after one
AGAIN_SECONDS = 0.25  # between two tries to reach it

log = logging.getLogger(f"ray.serve.{__name__}")


class AnswersAway(ConnectionError):
    """The answers actor can't be asked."""


class AnswersClient:
    """`connect` finds or makes the actor. `replica` is this process's name among all."""

    def __init__(self, connect: Callable[[], Awaitable[ActorCall]]):
        self._connect = connect
        self._actor: ActorCall | None = None
        self._connecting = asyncio.Lock()
        self.was_away = False  # when a key was last claimed
        self._looking: asyncio.Task[None] | None = None
        self.replica = secrets.token_hex(8)

    async def claim(self, key: str, fingerprint: str, run: str, until: float, *, begin: bool = True) -> Claimed:
        """Ask what a request with this key is to do. Raises AnswersAway, at `until` at the latest.

        Asked by the same name again, it answers the same again: so an answer that was lost costs nothing.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                claimed: Claimed = await self._call(until, "claim", key, fingerprint, run, self.replica, begin)
            except AnswersAway:
                if loop.time() + AGAIN_SECONDS >= until:
                    self.was_away = True
                    self._look_again()
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self.was_away = False
                return claimed

    def _look_again(self) -> None:
        """See in the background whether the actor is back: one that is merely slow gets the time that it needs."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._find())

    async def _find(self) -> None:
        with contextlib.suppress(AnswersAway):
            await self._call(self._soon(CALL_SECONDS), "claim", "", "", "", self.replica, False)
            self.was_away = False

    async def watch(self, leading: LeadingByKey, told: Iterable[str]) -> list[str]:
        """Say which runs this replica leads; return those that somebody wants to read. Raises AnswersAway."""
        wanted: list[str] = await self._call(self._soon(READ_SECONDS), "watch", self.replica, leading, list(told))
        return wanted

    async def put(self, run: str, index: int, items: Sequence[Item], *, ended: bool, keep: float) -> bool:
        """Hand over more of a run's answer; return False if what is before it is not there. Raises AnswersAway."""
        taken: bool = await self._call(self._soon(CALL_SECONDS), "put", run, index, list(items), ended, keep)
        return taken

    async def end(self, run: str) -> bool:
        """Say that a run's answer is not to be kept; return whether somebody waits for it. Raises AnswersAway."""
        waited: bool = await self._call(self._soon(CALL_SECONDS), "end", run)
        return waited

    async def drop(self, run: str) -> None:
        """Say that a run gives no answer. Raises AnswersAway."""
        await self._call(self._soon(CALL_SECONDS), "drop", run)

    async def read(self, run: str, index: int) -> Heard:
        """Return more of another replica's answer. Raises AnswersAway."""
        heard: Heard = await self._call(self._soon(READ_SECONDS), "read", run, index)
        return heard

    async def prepare(self) -> None:
        """Have the actor made, for who may need it soon. An actor that is away is no error."""
        with contextlib.suppress(AnswersAway):
            await self._open(self._soon(CALL_SECONDS))

    def _soon(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def _open(self, until: float) -> ActorCall:
        if self._actor is not None:
            return self._actor
        try:
            async with asyncio.timeout_at(until), self._connecting:
                if self._actor is None:
                    self._actor = await self._connect()
                return self._actor
        except Exception as error:  # Ray raises many kinds, and all mean that it is not there
            raise _away(error) from error

    async def _call(self, until: float, method: str, *arguments: object) -> Any:
        actor = await self._open(until)
        try:
            async with asyncio.timeout_at(until):
                return await actor(method, *arguments)
        except Exception as error:
            log.warning("The answers actor does not answer '%s': %s", method, error or type(error).__name__)
            if self._actor is actor:
                self._actor = None
            raise _away(error) from error


def _away(error: Exception) -> AnswersAway:
    return AnswersAway(f"the answers actor does not answer: {error or type(error).__name__}")


def alone() -> "AnswersClient":
    """Return a client for one replica that has no others."""
    exchange = Exchange()

    async def connect() -> ActorCall:
        return lambda method, *arguments: getattr(exchange, method)(*arguments)

    return AnswersClient(connect)


class RemoteRun:
    """The answer of a run that another replica leads."""

    def __init__(self, answers: AnswersClient, run: str):
        self._answers, self._run = answers, run

    async def read(self, index: int) -> tuple[list[Item], bool]:
        """As `Source.read`. An actor that was away for a moment may have lost the answer: then it is gone."""
        away_since: float | None = None
        while True:
            try:
                heard = await self._answers.read(self._run, index)
            except AnswersAway as error:
                now = asyncio.get_running_loop().time()
                away_since = now if away_since is None else away_since
                if now - away_since > READ_SECONDS:
                    raise Gone from error
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            away_since = None
            if heard["gone"]:
                raise Gone
            if heard["items"] or heard["ended"]:
                return heard["items"], heard["ended"]

    def leave(self, *, delivered: bool) -> None:
        """Nothing is to be told: the actor sees who reads."""

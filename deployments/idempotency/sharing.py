"""One answer for requests that are one request, sent more than once. No Ray.

With an idempotency key the first request claims the key, and others with the key join it or get what was kept. Without
one, a vendor's SDK that has waited for as long as it does is known to send the same request again: its first try goes
on, and the second joins it.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from actors.answers.messages import Claimed
from actors.metrics import Meter
from deployments.aio.turns import in_turns
from deployments.config.settings import IdempotencySettings
from deployments.errors import DeadlineExceeded, InternalError, KeyReused, Unavailable
from deployments.idempotency.answers_client import CALL_SECONDS, AnswersAway, AnswersClient, RemoteRun
from deployments.idempotency.leading import Leading
from deployments.idempotency.led_run import LedRun
from deployments.idempotency.recording import Gone, Run, Source
from deployments.idempotency.shared_answer import SharedAnswer
from deployments.idempotency.wish import Wish, digest, fingerprint, wish_of

TIMED_OUT = 504
CLAIM_SHARE = 0.3  # of a request's time, to find out whether it was sent before
AWAY_SECONDS = 1.0  # for the same where the actor could not be asked the last time
RETRY_SECONDS = 0.5  # for the same of an SDK's retry without a key
MOST_LINGERING = 64  # runs without a client
GAVE_UP = 0.9  # of the time that an SDK waits: who leaves later has lost its patience, and comes again


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may have been sent before.

    `owner` tells callers and routes apart: nobody gets what another one has asked for. `others` is what else decides
    on its answer. `run` answers it, by a time `at` of the loop's clock, and `broken` is the error frame of its API for
    a stream that broke off.
    """

    wish: Wish
    owner: tuple[str | None, ...]
    body: object
    others: Mapping[str, object]
    at: float
    run: Run
    broken: Callable[[], bytes]


class Sharing:
    def __init__(self, settings: IdempotencySettings, answers: AnswersClient, meter: Meter):
        self._settings, self._answers, self._meter = settings, answers, meter
        self._linger = float(settings.linger)
        self._leading = Leading(answers, float(settings.keep), self._linger)
        self._here: dict[str, LedRun] = {}  # by key: what is read here needs no word with the actor
        self._lingering = set[LedRun]()
        self._tasks = set[asyncio.Task[None]]()
        self._is_prepared = False

    def wish_in(self, headers: Mapping[bytes, bytes], total: float) -> Wish | None:
        """Return what a request says that is shared, or that may be sent again while it is answered; None for others.

        `total` are the seconds that it is given. Raises BadRequest for a key that is none.
        """
        if not self._settings.join or (wish := wish_of(headers)) is None:
            return None
        return wish if wish.key is not None or wish.retry > 0 or _may_lose_patience(wish, total) else None

    async def answer(self, request: Repeatable) -> SharedAnswer:
        """Return the answer, once it can be sent. Raises KeyReused, DeadlineExceeded and Unavailable."""
        printed = await in_turns(fingerprint(request.body, request.others))
        if request.wish.key is not None:
            return await self._by_key(request, digest(*request.owner, request.wish.key), printed)
        return await self._by_retry(request, digest(*request.owner, None, printed), printed)

    async def _by_key(self, request: Repeatable, key: str, printed: str) -> SharedAnswer:
        while True:
            source, word = await self._source(request, key, printed)
            if (answer := await self._begun(source, word, request)) is not None:
                return answer

    async def _source(self, request: Repeatable, key: str, printed: str) -> tuple[Source, str]:
        if (here := self._run_here(key, printed)) is not None:
            return here, "joined"
        name = secrets.token_hex(8)
        try:
            claimed = await self._claimed(request, key, printed, name)
        except AnswersAway as error:
            if (here := self._run_here(key, printed)) is not None:  # which has waited as this one did
                return here, "joined"
            if self._settings.unavailable == "refuse":
                self._count("unavailable")
                raise Unavailable("Nobody knows whether this request was sent before. Try again.") from error
            return self._lead(name, key, printed, request, self._left).join(), "unavailable"
        self._check(claimed["state"] != "other")
        if claimed["state"] == "join":
            here = self._here.get(key)  # where two came at one instant
            if here is not None and here.name == claimed["run"] and here.may_be_joined:
                return here.join(), "joined"
            return self._joined(claimed)
        led = self._lead(name, key, printed, request, self._left)
        self._leading.add(led)
        return led.join(), "taken_over" if claimed["lost"] else "new"

    async def _claimed(self, request: Repeatable, key: str, printed: str, name: str) -> Claimed:
        """Claim the key. A claim whose client leaves meanwhile is taken back: nobody would lead it."""
        now = asyncio.get_running_loop().time()
        most = AWAY_SECONDS if self._answers.was_away else CALL_SECONDS
        until = min(now + most, now + CLAIM_SHARE * max(0.0, request.at - now))
        claiming = asyncio.ensure_future(self._answers.claim(key, printed, name, until))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._keep(self._take_back(claiming, name))
            raise

    async def _take_back(self, claiming: "asyncio.Future[Claimed]", name: str) -> None:
        with contextlib.suppress(AnswersAway):
            if (await claiming)["state"] == "lead":
                await self._answers.drop(name)

    def _joined(self, claimed: Claimed) -> tuple[Source, str]:
        return RemoteRun(self._answers, claimed["run"]), "replayed" if claimed["ended"] else "joined"

    def _run_here(self, key: str, printed: str) -> LedRun | None:
        here = self._here.get(key)
        if here is None or not here.may_be_joined:
            return None
        self._check(here.fingerprint == printed)
        return here.join()

    def _check(self, same: bool) -> None:
        if not same:
            self._count("reused")
            raise KeyReused("This idempotency key was used for another request: each request needs a key of its own.")

    async def _by_retry(self, request: Repeatable, key: str, printed: str) -> SharedAnswer:
        """Answer a request of an SDK that gave no key: it joins its own first try, where that still runs."""
        found = await self._first_try(key, printed) if request.wish.retry > 0 else None
        if found is not None and (answer := await self._begun(*found, request)) is not None:
            return answer

        def left(run: LedRun) -> None:
            waited = asyncio.get_running_loop().time() - run.began
            patience = request.wish.patience
            if patience is None or waited < GAVE_UP * patience or run.recording.items:
                run.stop()  # who leaves so early, or in the middle of a stream, does not come again
            else:
                self._await_retry(run, key)

        led = self._lead(secrets.token_hex(8), None, printed, request, left)
        if not self._is_prepared:
            self._is_prepared = True
            self._keep(self._answers.prepare())
        answer = await self._begun(led.join(), None, request)
        assert answer is not None  # a run of our own always has an answer
        return answer

    async def _first_try(self, key: str, printed: str) -> tuple[Source, str] | None:
        if (here := self._run_here(key, printed)) is not None:
            return here, "joined"
        until = asyncio.get_running_loop().time() + RETRY_SECONDS
        try:
            claimed = await self._answers.claim(key, printed, "", until, begin=False)
        except AnswersAway:
            return None
        if claimed["state"] != "join":
            return None
        return self._joined(claimed)

    def _await_retry(self, run: LedRun, key: str) -> None:
        """Let a run go on whose client has left: its SDK sends the same request again, to any replica."""
        run.key = key
        self._here[key] = run
        self._left(run)
        if not run.stopped and run not in self._leading:
            self._keep(self._announce(run))

    async def _announce(self, run: LedRun) -> None:
        until = asyncio.get_running_loop().time() + CALL_SECONDS
        with contextlib.suppress(AnswersAway):
            claimed = await self._answers.claim(run.key, run.fingerprint, run.name, until)
            if claimed["state"] == "lead" and run not in self._leading:
                self._leading.add(run)

    def _lead(
        self, name: str, key: str | None, printed: str, request: Repeatable, left: Callable[[LedRun], None]
    ) -> LedRun:
        led = LedRun(name, key or "", printed, request.run, left, keyed=key is not None)
        if key is not None:
            self._here[key] = led
        led.at_end(self._forget)
        return led

    def _forget(self, run: LedRun) -> None:
        self._lingering.discard(run)
        if self._here.get(run.key) is run:
            del self._here[run.key]

    def _left(self, run: LedRun) -> None:
        """Let a run go on without a client, if not too many do: Serve does not count those."""
        self._lingering = {other for other in self._lingering if other.is_alone}
        if len(self._lingering) >= MOST_LINGERING:
            run.stop()
        else:
            self._lingering.add(run)
            run.stop_after(self._linger)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begun(self, source: Source, word: str | None, request: Repeatable) -> SharedAnswer | None:
        """Return the answer once it can be sent; None if nobody gives it any more."""
        answer = SharedAnswer(source, word, request.broken)
        # A run of one's own ends by itself at its deadline, with an error that says more.
        own = word not in ("joined", "replayed")
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout_at(None if own else request.at):
                status = await answer.begin()
        except TimeoutError:
            answer.leave()
            raise DeadlineExceeded("The request that was joined was not answered in time.") from None
        except Gone as error:
            answer.leave()
            if own:
                raise InternalError("Breakwater failed by a bug of its own. Its log has the details.") from error
            return None
        except BaseException:
            answer.leave()
            raise
        if status == TIMED_OUT and not own and clock() < request.at:
            answer.leave()  # its own time was over, and this request's is not
            return None
        if word is not None:
            self._count(word)
        return answer

    def _count(self, word: str) -> None:
        self._meter.add("breakwater_idempotent_total", (word,))


def _may_lose_patience(wish: Wish, total: float) -> bool:
    """Return whether a request's SDK would send it again before its time here is over."""
    return wish.patience is not None and wish.patience < total

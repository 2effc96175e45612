"""AnswersActor: one table of answers that requests with one idempotency key share. The Ray shell and nothing else.

- Named and detached, as the breaker actor is: it outlives a redeploy.
- It is made when the first request with a key comes: who uses none has no process for it.
- Its state is in memory alone. After a restart it learns from the replicas which runs they lead, and what was kept is
  lost: a request that comes for it again is answered anew.
- No request that carries no key asks it.
"""

# Ray keeps an actor's class by this module's path and by the names of all its methods, private ones too. Who finds
# the actor by its name loads it so. Both are words between two versions: a change of one, or an annotation that is no
# string, keeps the next version from using and from replacing the actor of this one.
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from actors.answers.exchange import SETTLE_SECONDS, Exchange
from actors.answers.messages import AnswersWhoAmI, Claimed, Heard, Item, LeadingByKey
from actors.singleton import NamedActor, code_fingerprint, leave_with_node

ROLE = "answers"
POLL_SECONDS = (
    1.0  # that a question waits for news; then it is asked again, so that both ends know that the other lives
)


class AnswersActor:
    def __init__(self, app: str, config: Mapping[str, object]):
        self._code = code_fingerprint()
        self._exchange = Exchange(SETTLE_SECONDS)
        leave_with_node(ROLE)

    async def hello(self, config: Mapping[str, object]) -> AnswersWhoAmI:
        return await self.whoami()

    async def whoami(self) -> AnswersWhoAmI:
        return {"pid": os.getpid(), "code": self._code}

    async def claim(self, key: str, fingerprint: str, run: str, replica: str, begin: bool = True) -> Claimed:
        return await self._exchange.claim(key, fingerprint, run, replica, begin)

    async def watch(self, replica: str, leading: LeadingByKey, told: Sequence[str] = ()) -> list[str]:
        return await self._exchange.watch(replica, leading, told)

    async def put(self, run: str, index: int, items: Sequence[Item], ended: bool, keep: float) -> bool:
        return await self._exchange.put(run, index, items, ended, keep)

    async def end(self, run: str) -> bool:
        return await self._exchange.end(run)

    async def drop(self, run: str) -> None:
        await self._exchange.drop(run)

    async def read(self, run: str, index: int) -> Heard:
        return await self._exchange.read(run, index)


def answers_actor(app: str) -> NamedActor:
    """Return the way to the application's answers actor."""
    return NamedActor(AnswersActor, app, ROLE)

"""Rows of several tiers in the world of world.py, and how a request through one of them ends."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer
from deployments.openai_api.chat import Request, check_request
from tests.clock import VirtualLoop, run_virtually
from tests.unit.world import ARGS, REQUEST, World, world

E500 = Outcome("server_error", status=500, message="no")
CONNECT = Outcome("connect", message="refused")
TWO = {
    **ARGS,
    "models": {
        "default": {"aws": "haiku", "openai": "gpt"},
        "solo": {"openai": "gpt"},
        "second": {"aws": "sonnet"},
    },
}
REST_SECONDS = 75.0  # after which a circuit that has opened once is due, whatever its jitter


def row_of(*names: str, **more: Any) -> dict[str, Any]:
    """A configuration with these tiers in one row; the model of each is `m`."""
    providers = {name: {"kind": "openai", "base_url": f"http://127.0.0.1:1/{name}"} for name in names}
    return {"providers": providers, "models": {"default": dict.fromkeys(names, "m")}, **more}


def in_tiers(args: Mapping[str, Any] = TWO) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """As `in_world`, with these tiers; the test may have parameters."""

    def decorated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            async def main() -> None:
                async with world(args) as w:
                    await test(w, **given)

            run_virtually(main())

        _, *parameters = inspect.signature(test).parameters.values()
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorated


@dataclass(frozen=True, slots=True)
class Ended:
    """`by` is the target that answered, or the status of the error."""

    by: str | int
    steps: list[str]
    seconds: float
    retry_after: float | None = None
    data: bytes = b""


def asked_for(model: str = "default", stream: bool = False, text: str = "Hi") -> Request:
    return check_request({**REQUEST, "model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})


async def ask(
    w: World, model: str = "default", seconds: float | None = None, *, stream: bool = False, text: str = "Hi"
) -> Ended:
    """One request, read to its end."""
    began, request, data = w.actor.now, asked_for(model, stream, text), b""
    try:
        if not stream:
            answer: Any = await w.service.failover.complete(request, w.service.deadline(seconds))
        else:
            answer = await w.service.failover.stream(request, w.service.deadline(seconds))
            try:
                data = b"".join([frame async for frame in answer.frames()])
            finally:
                await answer.close()
    except NoAnswer as error:
        return Ended(error.status, _steps(error.attempts), since(w, began), error.retry_after)
    return Ended(answer.target, _steps(answer.record.entries), since(w, began), data=data)


def _steps(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{entry['provider']}: {entry['outcome']}" for entry in entries]


def since(w: World, began: float) -> float:
    return round(w.actor.now - began, 4)


async def opened(w: World, provider: str, model: str = "default") -> None:
    """Its circuit has opened by three failures; the provider is well again."""
    script = w.provider(provider)
    script.ends = [CONNECT]
    for _ in range(3):
        await ask(w, model)
    await w.settle()
    script.ends = [None]


def state(w: World, target: str) -> str:
    """As the actor has it."""
    return str(w.targets()[target]["state"])


def stand_still(seconds: float) -> None:
    """Our own loop runs nothing for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += seconds


def nothing_is_left(w: World) -> bool:
    """No lease, no call that counts as under way, no stream that waits."""
    leases = [lease for b in w.actor.board.breakers.values() for lease in (*b.leases, *b.ghosts)]
    return not (leases or any(w.breaker.under_way.values()) or w.breaker.silence._waiting)

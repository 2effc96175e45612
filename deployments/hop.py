"""How a call reaches a provider replica: one handle call each, or many in one (boarding.py, lanes.py)."""

import asyncio
import contextlib
import functools
import os
import pickle
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from typing import Any

import grpc
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.admission import Room
from deployments.boarding import Boarding
from deployments.errors import AttemptFailed
from deployments.lanes import PIECE, Message
from deployments.loads import LOADS
from deployments.providers.base import failed


class HandleHop:
    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]]):
        self._complete = {name: h.options(method_name="complete") for name, h in handles.items()}
        self._stream = {name: h.options(method_name="stream", stream=True) for name, h in handles.items()}

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]:
        response: Any = self._complete[provider].remote(call)
        try:
            answer: dict[str, Any] = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:
            raise _lost(error) from error
        return answer

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
        async with contextlib.aclosing(_items(self._stream[provider].remote(call))) as items:
            async for item in items:
                yield item


async def _items(response: Any) -> AsyncGenerator[Any, None]:
    """What a streaming handle call gives; to close it is to cancel the call."""
    ended = False
    try:
        async for item in response:
            yield item
        ended = True
    except Exception as error:
        ended = True
        raise _lost(error) from error
    finally:
        if not ended:
            with contextlib.suppress(Exception):
                response.cancel()


SHARED_FROM = 4  # calls under way to one provider: fewer would gain nothing from each other
SHARED_BYTES = 256 * 1024  # a larger call has a message of its own
ASK_SECONDS, TELL_SECONDS = 10.0, 5.0
LEAST_ROOM = 16  # handle calls at a time: lanes and words take some of them


class SharedHop:
    """Many calls in one handle call where there are many; a handle call each where there are few.

    `shared` are the providers whose calls are worth it: with a slow model on our own processor they are not.
    """

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]], shared: Collection[str]):
        self._alone = HandleHop(handles)
        self._ways = {name: _Way(handle) for name, handle in handles.items() if name in shared}
        self._under_way: Counter[str] = Counter()

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]:
        with self._counted(provider) as way:
            if way is None or (packed := _packed(call)) is None:
                return await self._alone.complete(provider, call)
            return await way.boarding.complete(call.get("verb", "chat"), packed)

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
        with self._counted(provider) as way:
            if way is None or (packed := _packed(call)) is None:
                items = self._alone.stream(provider, call)
            else:
                items = way.boarding.stream(packed)
            async with contextlib.aclosing(items):
                async for item in items:
                    yield item

    @contextlib.contextmanager
    def _counted(self, provider: str) -> "Iterator[_Way | None]":
        """How to go, and that this call is under way."""
        self._under_way[provider] += 1
        try:
            way = self._ways.get(provider)
            few = self._under_way[provider] < SHARED_FROM
            yield way if way is not None and not few and way.wide() else None
        finally:
            self._under_way[provider] -= 1


class _Way:
    """The shared way to one provider's replicas, if they have room for it."""

    def __init__(self, handle: DeploymentHandle[Any]):
        self.boarding = Boarding(self._send, self._tell, self._learn, LOADS)
        self._ingress = uuid.uuid4().hex
        self._handle = handle
        self._board = handle.options(method_name="board", stream=True)
        self._room: int | None = None
        self._asked: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    def wide(self) -> bool:
        """Not before it is known; and of a narrow one it is asked again from time to time."""
        if self._room is None or self._room < LEAST_ROOM:
            now = asyncio.get_running_loop().time()
            if now - self._asked_at > ASK_SECONDS:
                self._asked_at = now
                self._asked = asyncio.create_task(self._ask())
            return False
        return True

    async def _ask(self) -> None:
        with contextlib.suppress(Exception):
            answer: Any = self._handle.options(method_name="room").remote()
            self._room = await answer

    def _learn(self, hello: Mapping[str, Any]) -> None:
        self._room = hello["room"]

    async def _send(self, batch: int, calls: list[Any]) -> AsyncGenerator[Message, None]:
        async with contextlib.aclosing(_items(self._board.remote(self._ingress, batch, calls))) as messages:
            async for message in messages:
                yield message

    async def _tell(self, drop: list[int], hold: Mapping[int, float]) -> None:
        """To all replicas: which of them has the call is Serve's choice, and it keeps that to itself."""
        await self._handle.broadcast("tell", self._ingress, drop, hold).results_async(timeout_s=TELL_SECONDS)


def _packed(call: Mapping[str, Any]) -> bytes | None:
    packed = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
    return packed if len(packed) <= SHARED_BYTES else None


def room() -> Room:
    """What this replica may take, as Serve knows it with every override.

    Serve shows a replica its limits in a private field only; without it nothing is limited here.
    """
    context = serve.get_replica_context()
    config = getattr(context, "_deployment_config", None)
    calls, line = (2**31, -1) if config is None else (config.max_ongoing_requests, config.max_queued_requests)
    return _room(context.replica_tag, calls, line)


@functools.lru_cache(maxsize=4)
def _room(replica: str, calls: int, line: int) -> Room:
    """Asked for several times a call; what the environment says stays as it is."""
    message = int(os.environ.get("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", 4 * 1024 * 1024))
    return Room(replica, calls, line, message - PIECE)


def _lost(error: Exception) -> AttemptFailed:
    match error:
        case BackPressureError():
            return failed("busy", "the queue of this provider's deployment is full")
        case DeploymentUnavailableError():
            return failed("unreachable", "this provider's deployment is unavailable")
        case grpc.RpcError() if getattr(error, "code", lambda: None)() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return failed("lost", "too large for one message between our replicas (see serve.env)")
        case RayError() | RayServeException() | grpc.RpcError():
            return failed("lost", f"the provider's replica went away: {type(error).__name__}")
        case _:
            return failed("unclassified", f"{type(error).__name__}: {error}")

"""How a call reaches a provider replica: by a handle call each, or over a lane (boarding.py, ride.py, lanes.py)."""

import asyncio
import contextlib
import functools
import os
import pickle
import uuid
from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Any

import grpc
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.errors import AttemptFailed, failed
from deployments.rpc.admission import Room
from deployments.rpc.connection import Way
from deployments.rpc.framing import encrypted
from deployments.rpc.in_flight import LOADS
from deployments.rpc.pool import Anchor, Boarding
from deployments.rpc.port import Items


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

    def stream(self, provider: str, call: Mapping[str, Any]) -> Items:
        return _items(self._stream[provider], call)


async def _items(method: Any, *arguments: Any) -> AsyncGenerator[Any, None]:
    """What a streaming handle call gives, from the first item asked for; to close it is to cancel the call."""
    under_way = None
    try:
        under_way = method.remote(*arguments)
        async for item in under_way:
            yield item
        under_way = None
    except Exception as error:
        under_way = None
        raise _lost(error) from error
    finally:
        if under_way is not None:
            with contextlib.suppress(Exception):
                under_way.cancel()


SHARED_BYTES = 256 * 1024  # a larger call has a handle call of its own


class SharedHop:
    """Many calls over few connections where they follow each other; a handle call each where they do not.

    `shared` are the providers whose calls are worth it: with a slow model on our own processor they are not.
    """

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]], shared: Collection[str]):
        self._alone = HandleHop(handles)
        self._boardings = {name: Boarding(name, _anchor(handles[name]), LOADS) for name in handles.keys() & shared}

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]:
        if (boarding := self._boardings.get(provider)) is not None:
            way = boarding.way()
            if way is None and boarding.opening:
                way = await boarding.opened()
            if way is not None and (packed := _packed(call)) is not None:
                return await way.begin(call.get("verb", "chat"), packed).whole()
        return await self._alone.complete(provider, call)

    def stream(self, provider: str, call: Mapping[str, Any]) -> Items:
        if (boarding := self._boardings.get(provider)) is not None:
            if (way := boarding.way()) is not None:
                return self._streamed(way, provider, call)
            if boarding.opening:
                return self._when_opened(boarding, provider, call)
        return self._alone.stream(provider, call)

    def _streamed(self, way: Way | None, provider: str, call: Mapping[str, Any]) -> Items:
        if way is not None and (packed := _packed(call)) is not None:
            return way.begin("stream", packed)
        return self._alone.stream(provider, call)

    async def _when_opened(
        self, boarding: Boarding, provider: str, call: Mapping[str, Any]
    ) -> AsyncGenerator[bytes | dict[str, Any], None]:
        items = self._streamed(await boarding.opened(), provider, call)
        try:
            while (item := await anext(items, None)) is not None:
                yield item
        finally:
            await items.aclose()


def _anchor(handle: DeploymentHandle[Any]) -> Anchor:
    board, ingress = handle.options(method_name="board", stream=True), uuid.uuid4().hex
    return lambda: _items(board, ingress, room().node)


def _packed(call: Mapping[str, Any]) -> bytes | None:
    packed = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
    return packed if len(packed) <= SHARED_BYTES else None


def room() -> Room:
    """What this replica may take, as Serve knows it with every override, and where it is.

    Serve shows a replica its limits in a private field only; without it nothing is limited here.
    """
    context = serve.get_replica_context()
    config = getattr(context, "_deployment_config", None)
    calls, line = (2**31, -1) if config is None else (config.max_ongoing_requests, config.max_queued_requests)
    return _room(context.replica_tag, calls, line)


@functools.lru_cache(maxsize=4)
def _room(replica: str, calls: int, line: int) -> Room:
    """Asked for several times a call; where it is stays as it is."""
    # Where Ray's own connections between nodes are encrypted, none of ours goes around that.
    host = None if encrypted(os.environ) else ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return Room(replica, calls, line, ray.get_runtime_context().get_node_id(), host)


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

"""How a call reaches a provider replica: by a handle call of its own, or over a pooled connection (pool.py)."""

import asyncio
import contextlib
import functools
import os
import pickle
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any, TypeAlias, cast

import grpc
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.aio.turns import in_turns
from deployments.errors import AttemptFailed, failed
from deployments.providers.base import CallMessage
from deployments.rpc.admission import QUEUE_FULL, Capacity
from deployments.rpc.connection import ClientStream, Connection
from deployments.rpc.framing import is_encrypted
from deployments.rpc.in_flight import IN_FLIGHT
from deployments.rpc.long_calls import take_apart
from deployments.rpc.pool import ConnectionPool, ControlCall
from deployments.rpc.port import HelloMessage, ProviderStream, ReplyMessage, StreamItem

Handle: TypeAlias = DeploymentHandle[Any]  # Ray can't type a handle to a class that is unknown until it is bound


class HandleTransport:
    def __init__(self, handles: Mapping[str, Handle]):
        self._complete = {name: h.options(method_name="complete") for name, h in handles.items()}
        self._stream = {name: h.options(method_name="stream", stream=True) for name, h in handles.items()}

    async def complete(
        self, provider: str, call: CallMessage, on_piece: Callable[[], None] | None = None
    ) -> ReplyMessage:
        response: Any = self._complete[provider].remote(call)
        try:
            reply: ReplyMessage = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:
            raise _classify(error) from error
        return reply

    def stream(self, provider: str, call: CallMessage) -> ProviderStream:
        return _read_handle(self._stream[provider], call)


async def _read_handle(method: Any, *arguments: Any) -> AsyncGenerator[Any, None]:
    """Yield the items of a streaming handle call, which begins with the first `anext`. Closing it cancels the call."""
    response = None
    try:
        response = method.remote(*arguments)
        async for item in response:
            yield item
        response = None
    except Exception as error:
        response = None
        raise _classify(error) from error
    finally:
        if response is not None:
            with contextlib.suppress(Exception):
                response.cancel()


POOLED_BYTES = 256 * 1024  # a larger call has a handle call of its own, where the replica takes no parts


class PooledTransport:
    """Send calls that follow each other over few connections, and each other call by a handle call of its own.

    `pooled` are the providers whose calls are worth it: those of a slow model on our own processor are not.
    """

    def __init__(self, handles: Mapping[str, Handle], pooled: Collection[str]):
        self._handles = HandleTransport(handles)
        self._pools = {
            name: ConnectionPool(name, _control_call(handles[name]), IN_FLIGHT) for name in handles.keys() & pooled
        }

    async def complete(
        self, provider: str, call: CallMessage, on_piece: Callable[[], None] | None = None
    ) -> ReplyMessage:
        if (pool := self._pools.get(provider)) is not None:
            connection = pool.pick()
            if connection is None and pool.opening:
                connection = await pool.wait_and_pick()
            if connection is not None:
                heard: CallMessage = call if on_piece is None else {**call, "hears_pieces": True}
                if call.get("is_long") and connection.takes_apart:
                    return await (await _begin_long(connection, call.get("verb", "chat"), heard)).read_reply(on_piece)
                if (pickled := _pickle_call(heard, connection)) is not None:
                    return await connection.begin(call.get("verb", "chat"), pickled).read_reply(on_piece)
        return await self._handles.complete(provider, call)

    def stream(self, provider: str, call: CallMessage) -> ProviderStream:
        if (pool := self._pools.get(provider)) is not None:
            if (connection := pool.pick()) is not None:
                return self._stream_over(connection, provider, call)
            if pool.opening:
                return self._wait_and_stream(pool, provider, call)
        return self._handles.stream(provider, call)

    def _stream_over(self, connection: Connection | None, provider: str, call: CallMessage) -> ProviderStream:
        if connection is not None and call.get("is_long") and connection.takes_apart:
            return _stream_long(connection, call)
        if connection is not None and (pickled := _pickle_call(call, connection)) is not None:
            # A stream of another verb would end with a ReplyMessage.
            return cast(ProviderStream, connection.begin("stream", pickled))
        return self._handles.stream(provider, call)

    async def _wait_and_stream(
        self, pool: ConnectionPool, provider: str, call: CallMessage
    ) -> AsyncGenerator[StreamItem, None]:
        items = self._stream_over(await pool.wait_and_pick(), provider, call)
        try:
            while (item := await anext(items, None)) is not None:
                yield item
        finally:
            await items.aclose()


def _control_call(handle: Handle) -> ControlCall:
    method, ingress = handle.options(method_name="board", stream=True), uuid.uuid4().hex

    def call() -> AsyncGenerator[HelloMessage, None]:
        return _read_handle(method, ingress, replica_capacity().node)

    return call


def _pickle_call(call: CallMessage, connection: Connection) -> bytes | None:
    """Return the call as bytes; None if it is too large for this shared connection."""
    pickled = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
    return pickled if connection.takes_parts or len(pickled) <= POOLED_BYTES else None


async def _begin_long(connection: Connection, verb: str, call: CallMessage) -> ClientStream:
    apart = await in_turns(take_apart(call))
    if connection.closed.is_set():  # meanwhile
        raise failed("lost", "the provider's replica went away")
    return connection.begin(verb, apart)


async def _stream_long(connection: Connection, call: CallMessage) -> AsyncGenerator[StreamItem, None]:
    items = cast(ProviderStream, await _begin_long(connection, "stream", call))
    try:
        while (item := await anext(items, None)) is not None:
            yield item
    finally:
        await items.aclose()


def replica_capacity() -> Capacity:
    """Return what this replica may take, as Serve knows it with every override, and where it runs.

    Serve shows a replica its limits in a private field only; without it the capacity is unlimited here.
    """
    context = serve.get_replica_context()
    config = getattr(context, "_deployment_config", None)
    calls, queue = (2**31, -1) if config is None else (config.max_ongoing_requests, config.max_queued_requests)
    return _capacity(context.replica_tag, calls, queue)


@functools.lru_cache(maxsize=4)
def _capacity(replica: str, calls: int, queue: int) -> Capacity:
    """Add where the replica runs, which never changes. Cached because it is needed several times a call."""
    # If Ray encrypts its own connections between nodes, none of ours may bypass that.
    host = None if is_encrypted(os.environ) else ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return Capacity(replica, calls, queue, ray.get_runtime_context().get_node_id(), host)


def _classify(error: Exception) -> AttemptFailed:
    """Return how a handle call failed on its way to the replica."""
    match error:
        case BackPressureError():
            return failed("busy", QUEUE_FULL)
        case DeploymentUnavailableError():
            return failed("unreachable", "this provider's deployment is unavailable")
        case grpc.RpcError() if getattr(error, "code", lambda: None)() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return failed("lost", "the message between two of our replicas is too large (see serve.env)")
        case RayError() | RayServeException() | grpc.RpcError():
            return failed("lost", f"the provider's replica went away ({type(error).__name__})")
        case _:
            return failed("unclassified", f"{type(error).__name__}: {error}")

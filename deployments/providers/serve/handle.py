"""The handle of a deployment: found, called and cancelled, with Ray's errors as ours. The one file here with Ray.

Serve's controller is asked for the deployment before the first call, and again once it has gone: a handle says so.
"""

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonDict
from deployments.providers.serve.failures import raised
from deployments.providers.serve.port import ENDED, About, Items

Handle: TypeAlias = DeploymentHandle[Any]

_NO_METHOD = "Tried to call a method"  # Serve has no type and no code for it


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment of an application; None: the application's ingress. `multiplexed`: models share its replicas."""

    app: str
    deployment: str | None = None
    multiplexed: bool = False


class HandleDeployment:
    """`connect` is how long the first call may wait for the controller, in seconds."""

    def __init__(self, place: Place, connect: float):
        self._place, self._connect = place, connect
        self._handle: Handle | None = None
        self._looking: asyncio.Task[Handle] | None = None

    async def ask(self, method: str, request: JsonDict, about: About) -> Any:
        called = await self._method(method, about, stream=False)
        response: Any = called.remote(request)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:
            raise self._failure(error) from error

    async def stream(self, method: str, request: JsonDict, about: About) -> Items:
        called = await self._method(method, about, stream=True)
        return HandleItems(called.remote(request), self._failure)

    async def _method(self, method: str, about: About, *, stream: bool) -> Handle:
        handle = self._handle or await self._found()
        more: dict[str, Any] = {} if about.session is None else {"session_id": about.session}
        if self._place.multiplexed:
            more["multiplexed_model_id"] = about.model
        _tell_request_id(about.request_id)
        called: Handle = handle.options(method_name=method, stream=stream, **more)
        return called

    async def _found(self) -> Handle:
        """Return the handle. Raises AttemptFailed `connect` if there is no such deployment, or nobody says so."""
        if self._looking is None:
            # In a context of its own: it is no part of the request that needed it.
            loop = asyncio.get_running_loop()
            self._looking = loop.create_task(asyncio.to_thread(_find, self._place), context=contextvars.Context())
        looking = self._looking
        done, _ = await asyncio.wait([looking], timeout=self._connect)
        if not done:
            raise failed("connect", f"Serve's controller did not answer within {self._connect:g} s")
        if self._looking is looking:
            self._looking = None
        if isinstance(error := looking.exception(), AttemptFailed):
            raise AttemptFailed(error.outcome)
        if error is not None:
            raise failed("connect", f"Serve's controller did not answer ({type(error).__name__})")
        self._handle = looking.result()
        return self._handle

    def _failure(self, error: Exception) -> AttemptFailed:
        if isinstance(error, DeploymentUnavailableError):
            self._handle = None
        return failure_of_call(error)


class HandleItems:
    def __init__(self, response: Any, failure: Callable[[Exception], AttemptFailed]):
        self._response: Any = response
        self._failure = failure

    async def next(self) -> Any:
        if self._response is None:
            return ENDED
        try:
            return await anext(self._response)
        except StopAsyncIteration:
            self._response = None
            return ENDED
        except Exception as error:
            self._response = None
            raise self._failure(error) from error

    def close(self) -> None:
        if self._response is not None:
            self._response.cancel()
            self._response = None


def _tell_request_id(request_id: str | None) -> None:
    """Let the calls of this task have the request's id in Serve's logs.

    Else it would be that of the call which opened the connection to this replica. Serve has no public name for it.
    """
    set_context: Any = getattr(serve.context, "_set_request_context", None)
    if request_id is not None and set_context is not None:
        set_context(request_id=request_id)


def _find(place: Place) -> Handle:
    """Return the deployment's handle. Blocks. Raises AttemptFailed `connect` where Serve has no such deployment."""
    app, name = place.app, place.deployment
    if app == _own_app():
        raise failed("connect", f"the application {app} is Breakwater itself")
    found = serve.status().applications.get(app)
    if found is None:
        raise failed("connect", f"this cluster has no application {app}")
    if name is not None and name not in found.deployments:
        raise failed("connect", f"the application {app} has no deployment {name}")
    handle: Handle = serve.get_app_handle(app) if name is None else serve.get_deployment_handle(name, app)
    return handle


def _own_app() -> str | None:
    """Return the application of this replica; None outside of one."""
    try:
        return str(serve.get_replica_context().app_name)
    except RayServeException:
        return None


def failure_of_call(error: Exception) -> AttemptFailed:
    """Return how a call by handle failed: on its way, in its replica, or by what the method raised."""
    match error:
        case BackPressureError():
            return failed("busy", "the deployment's queue is full", retry_after=error.retry_after_s)
        case DeploymentUnavailableError():
            return failed("connect", "the deployment is not there: it was deleted, or failed to deploy")
        case grpc.RpcError() if getattr(error, "code", lambda: None)() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return failed("lost", "the message is too large for Serve (see serve.env)")
        case RayTaskError():
            return raised(error.cause)
        case RayActorError():
            return failed("lost", f"the deployment's replica went away ({type(error).__name__})")
        case RayServeException() if str(error).startswith(_NO_METHOD):
            return failed("model_missing", str(error))
        case RayError() | RayServeException() | grpc.RpcError():
            return failed("lost", f"the call was lost ({type(error).__name__})")
        case _:
            return raised(error)

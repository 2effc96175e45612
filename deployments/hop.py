"""How a call reaches a provider replica: one handle call each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.errors import AttemptFailed
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
        response: Any = self._stream[provider].remote(call)
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

"""The Python API: dicts in and dicts out, errors included. No Ray.

A caller on the cluster need not have our code on its path, so nothing of ours crosses to it.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from deployments.errors import BreakwaterError, error_dict
from deployments.openai_api.chat import check_request, frames_to_chunks, writable
from deployments.openai_api.embeddings import check_embedding_request
from deployments.service.arguments import drop_of
from deployments.service.service import Service
from deployments.usage.caller import Caller

_BY_HANDLE = Caller("handle")


class PythonApi:
    """`chat`, `stream_chat` and `embed` take a request as OpenAI's API has it."""

    def __init__(self, service: Service):
        self._service = service

    async def chat(
        self,
        request: Any,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        caller: Caller = _BY_HANDLE,
    ) -> dict[str, Any]:
        """A chat completion, with `breakwater: {provider, model, attempts, degraded, dropped}`.

        On failure `{"error": {..., attempts}, "status": HTTP status}`.
        """
        try:
            checked = replace(check_request(_with_stream(request, False)), drop=drop_of(drop_unsupported))
            deadline = self._service.deadline(timeout_seconds)
            answer = await self._service.complete(checked, deadline, caller)
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self._service.served_by(answer)}

    async def embed(
        self, request: Any, timeout_seconds: float | None = None, caller: Caller = _BY_HANDLE
    ) -> dict[str, Any]:
        """OpenAI's embeddings, with `breakwater` as in `chat`: its `model` says whose vectors they are."""
        try:
            answer = await self._service.embeddings(
                check_embedding_request(writable(request)), self._service.deadline(timeout_seconds), caller
            )
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self._service.served_by(answer)}

    async def stream_chat(
        self,
        request: Any,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        caller: Caller = _BY_HANDLE,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Chunks, the first with `breakwater` as in `chat`. A failure is a last `{"error": ...}`."""
        try:
            checked = replace(check_request(_with_stream(request, True)), drop=drop_of(drop_unsupported))
            answer = await self._service.stream(checked, self._service.deadline(timeout_seconds), caller)
        except BreakwaterError as error:
            yield error_dict(error)
            return
        extra = {"breakwater": self._service.served_by(answer)}
        try:
            async with contextlib.aclosing(answer.frames()) as frames:
                async for data in frames:
                    for chunk in frames_to_chunks(data):
                        yield {**chunk, **extra}
                        extra = {}
        finally:
            await answer.close()


def _with_stream(request: Any, stream: bool) -> Any:
    return {**request, "stream": stream} if isinstance(request, dict) else request

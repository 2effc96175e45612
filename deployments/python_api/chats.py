"""The Python API: dicts in and dicts out, errors included. No Ray.

A caller on the cluster may not have our code on its path, so no class of ours crosses to it.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from msgspec import structs

from deployments.errors import BreakwaterError, error_dict
from deployments.openai_api.chat import Request, check_json, check_request, frames_to_chunks
from deployments.openai_api.embeddings import check_embedding_request
from deployments.openai_api.json_types import JsonObject
from deployments.service.arguments import CallOptions, parse_drop

if TYPE_CHECKING:
    from deployments.service.service import Service

_DEFAULT = CallOptions()


class PythonApi:
    """`chat`, `stream_chat` and `embed` take a request as OpenAI's API has it, and check it."""

    def __init__(self, service: "Service"):
        self._service = service

    async def chat(self, request: object, options: CallOptions = _DEFAULT) -> JsonObject:
        """Return a chat completion with `breakwater`, which is a `ServedBy`.

        On failure return `{"error": {..., attempts}, "status": HTTP status}`.
        """
        try:
            checked = _checked(request, options, stream=False)
            deadline = self._service.deadline(options.timeout_seconds)
            answer = await self._service.complete(checked, deadline, options.caller)
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self._service.served_by(answer)}

    async def embed(self, request: object, options: CallOptions = _DEFAULT) -> JsonObject:
        """Return OpenAI's embeddings with `breakwater` as in `chat`: its `model` made the vectors.

        The option `drop_unsupported` is ignored.
        """
        try:
            checked = check_embedding_request(check_json(request))
            deadline = self._service.deadline(options.timeout_seconds)
            answer = await self._service.embeddings(checked, deadline, options.caller)
        except BreakwaterError as error:
            return error_dict(error)
        return {**json.loads(answer.body), "breakwater": self._service.served_by(answer)}

    async def stream_chat(self, request: object, options: CallOptions = _DEFAULT) -> AsyncGenerator[JsonObject, None]:
        """Yield chunks, the first with `breakwater` as in `chat`. A failure is the last item, `{"error": ...}`."""
        try:
            checked = _checked(request, options, stream=True)
            deadline = self._service.deadline(options.timeout_seconds)
            answer = await self._service.stream(checked, deadline, options.caller)
        except BreakwaterError as error:
            yield error_dict(error)
            return
        extra: JsonObject = {"breakwater": self._service.served_by(answer)}
        try:
            async with contextlib.aclosing(answer.frames()) as frames:
                async for data in frames:
                    for chunk in frames_to_chunks(data):
                        yield {**chunk, **extra}
                        extra = {}
        finally:
            await answer.close()


def _checked(request: object, options: CallOptions, *, stream: bool) -> Request:
    body = {**request, "stream": stream} if isinstance(request, dict) else request
    return structs.replace(check_request(body), drop=parse_drop(options.drop_unsupported))

"""Deployments with the plain contract of kind `serve`, as another team would deploy them on the same cluster."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

from ray import serve

from deployments.ops.serve_llm import ServeLLM
from tests.fakes import serve_llm

CHUNK = {"id": "chatcmpl-app", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
WORDS = ("Paris", " is", " nice")


class Contract:
    """What it does is said in the request's `user`."""

    def __init__(self) -> None:
        self.left: list[str] = []  # the tasks that were cancelled
        self.seen: list[tuple[str, str, str]] = []

    async def chat(self, request: dict[str, Any]) -> Any:
        context: Any = serve.context
        seen = context._get_serve_request_context()
        self.seen.append((seen.request_id, seen.session_id, serve.get_multiplexed_model_id()))
        return self._stream(request) if request["stream"] else await self._whole(request)

    async def _whole(self, request: dict[str, Any]) -> Any:
        match request.get("user"):
            case "hangs":
                await self._hang("whole")
            case "dies":
                os._exit(1)
            case "raises":
                raise ValueError("no such thing")
            case "errs":
                return {"error": {"message": "later", "type": "rate_limit_error", "code": None}, "status": 429}
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return {**CHUNK, "object": "chat.completion", "choices": [choice], "usage": usage}

    async def _stream(self, request: dict[str, Any]) -> AsyncGenerator[Any, None]:
        for number, word in enumerate(WORDS):
            yield self._chunk({"content": word})
            if number == 1:
                match request.get("user"):
                    case "hangs":
                        await self._hang("stream")
                    case "dies":
                        await asyncio.sleep(0.2)  # until what was yielded has been sent
                        os._exit(1)
                    case "raises":
                        raise ValueError("no such thing")
                    case "ends":
                        return
        yield self._chunk({}, "stop")
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    async def _hang(self, what: str) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            self.left.append(what)

    async def plain(self, request: dict[str, Any]) -> Any:
        return await self._whole({})

    async def what_was_left(self) -> list[str]:
        return self.left

    async def what_was_seen(self) -> list[tuple[str, str, str]]:
        return self.seen


class Engine(serve_llm.LLMServer):
    """Serve LLM's deployment, which remembers under which session and which request it was asked."""

    def note(self, request: Any) -> None:
        context: Any = serve.context
        seen = context._get_serve_request_context()
        self.seen.append((seen.session_id, seen.request_id))

    async def what_was_seen(self) -> list[Any]:
        return self.seen


class Adapter(ServeLLM):
    """The adapter, where no engine is installed: its module of requests is the fake's."""

    def __init__(self, server: Any):
        sys.modules[serve_llm.MODELS] = serve_llm.models()
        super().__init__(server)

    async def what_was_seen(self) -> Any:
        return await self._server.options(stream=False).what_was_seen.remote()

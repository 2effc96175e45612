"""The adapter of the local model: llama.cpp in this process, the last tier when every cloud is down.

Proof of life, not quality: the weights that come with the package are SmolLM2-135M, 135 million
parameters. `model_path` takes any GGUF. It needs no network and no key.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from deployments.errors import failed
from deployments.newest import Newest
from deployments.openai_api.chat import Head, dump, usage_chunk
from deployments.openai_api.embeddings import texts_of
from deployments.openai_api.json_types import JsonObject
from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.embedding import completed
from deployments.providers.local.codec import StreamCodec, grammar_for, to_engine, wish_of
from deployments.providers.local.embed import Embedded, Embedder
from deployments.providers.local.engine import Engine, bundled_gguf, settings
from deployments.providers.local.tools import Choice, Tool, choice_of
from deployments.providers.time_limits import Pieces

_CANARY, _PROOFS = "Q", 256


class LocalProvider:
    def __init__(self, *, model_path: str | None = None, slots: int = 2, context: int = 2048, threads: int = 1):
        path = model_path or bundled_gguf()
        self._engine = Engine(settings(path, slots=slots, context=context, threads=threads))
        self._embedder = Embedder(path, context=context, threads=threads)
        self._proven = Newest[str, bool](_PROOFS)

    def streams_whole(self, call: Call) -> bool:
        """Return False: a whole answer is watched piece by piece in any case."""
        return False

    async def complete(self, call: Call) -> Completed:
        codec, pieces = StreamCodec(call, Head.new(call.name)), Pieces(call.limits, call.within, wish_of(call.body))
        with pieces.in_time():
            async with contextlib.aclosing(self._frames(call, codec, call.limits.total / 2)) as frames:
                async for _ in frames:
                    pieces.note()
        return Completed(dump(codec.answer()), codec.usage)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec = StreamCodec(call, Head.new(call.name))
        async with contextlib.aclosing(self._frames(call, codec, call.limits.first_token / 2)) as frames:
            async for data in frames:
                yield Frames(data, content=True)
        codec.end()
        tail = usage_chunk(codec.head, codec.usage) if codec.usage and call.wants_usage else b""
        yield End(codec.usage, tail)

    async def _frames(self, call: Call, codec: StreamCodec, wait: float) -> AsyncGenerator[bytes, None]:
        """Yield the answer's frames. A request that the model can't take is refused before the wait for a slot."""
        request = to_engine(call)
        choice = choice_of(call.body) if call.must is None else Choice()  # a text that was begun goes on as a text
        async with self._engine.slot(wait):
            if (tool := await self._chosen(choice, call, request)) is not None:
                codec.tool, request = tool, to_engine(call, tool)
            await self._prove(call, tool)
            async with contextlib.aclosing(self._engine.chat(request)) as chunks:
                async for parts in chunks:
                    if data := b"".join(codec.frames(part) for part in parts):
                        yield data

    async def _chosen(self, choice: Choice, call: Call, request: JsonObject) -> Tool | None:
        if not choice.is_open:
            return choice.settled
        # A question about twenty tools is read in seconds. A chat that is too long without them is refused at once.
        if await self._engine.exceeds("\n".join(turn["content"] for turn in request["messages"])):
            return None
        word = await self._engine.text(choice.request(call.body["messages"]))
        if (tool := choice.find(word)) is None and not choice.may_decline:
            raise failed("malformed", "the engine's answer does not match its grammar")
        return tool

    async def _prove(self, call: Call, tool: Tool | None) -> None:
        """Refuse a schema that the engine can't compile.

        The engine reports no error: it answers as if there were no schema. So the grammar is tried for one token, after
        a letter that only the grammar would produce.
        """
        proof = None if call.must is not None else grammar_for(call.body, tool, start=_CANARY)
        if proof is None:
            return
        if proof not in self._proven:
            request = {"prompt": "1 2 3", "grammar": proof, "max_tokens": 1, "temperature": 0.0}
            self._proven[proof] = (await self._engine.text(request)).startswith(_CANARY)
        if not self._proven[proof]:
            param = tool.param if tool else "response_format"
            message = f"Invalid '{param}': the local model can't follow this schema."
            raise failed("bad_request", message, status=400, code="invalid_value", param=param)

    async def embed(self, call: Call) -> Completed:
        texts, pieces = texts_of(call.body), Pieces(call.limits, call.within, "input")
        with pieces.in_time():
            got = await self._embedder.embed(texts, call.limits.total / 2, pieces)
        return completed(call, got.vectors, got.prompt_tokens)

    async def embed_texts(self, texts: Sequence[str], *, wait: float = 15.0) -> Embedded:
        """Return vectors of length one by mean pooling, in the order of the texts."""
        return await self._embedder.embed(texts, wait)

    async def close(self) -> None:
        self._engine.close()
        self._embedder.close()


class LocalSettings(Protocol):
    model_path: str | None
    slots: int
    context: int
    threads: int


def build(settings: LocalSettings, connect: float) -> LocalProvider:
    """Return the adapter of a configured provider, which connects to nothing."""
    return LocalProvider(
        model_path=settings.model_path, slots=settings.slots, context=settings.context, threads=settings.threads
    )

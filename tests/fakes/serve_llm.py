"""Ray Serve LLM without an engine: request models of vLLM's fields, and an `LLMServer` that answers as Ray's does.

Sources, each at what it was written from:
- Ray 2.60, `ray/llm/_internal/serve/core/server/llm_server.py`: `chat` and `embeddings` take a model and a
  `RawRequestInfo`, and return an async generator. It yields one response, or lists of texts for a stream. A dict is not
  taken: `request.stream` and `request.model_fields_set` are read.
- `.../engines/vllm/vllm_engine.py`: texts are as vLLM's server writes them, and an error is an `ErrorResponse`.
- `.../serve/utils/batcher.py`: with batching, the first item is a list too.
- vllm-project/vllm, `entrypoints/openai/chat_completion/protocol.py` and `.../engine/protocol.py`: the fields, and that
  others are allowed; `content` and `tool_calls` are `Iterable` in the messages' types, which come from the openai SDK.
"""

import json
import pickle
import sys
import types
import uuid
from collections.abc import AsyncGenerator
from typing import Any, Literal

import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field

MODELS = "ray.serve.llm.openai_api_models"


class ChatCompletionRequest(BaseModel):
    model_config = ConfigDict(extra="allow")

    messages: list[ChatCompletionMessageParam]
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = []
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = "none"
    user: str | None = None
    request_id: str = Field(default_factory=lambda: uuid.uuid4().hex)


class EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: list[int] | list[list[int]] | str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class ErrorInfo(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: int


class ErrorResponse(BaseModel):
    error: ErrorInfo


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = 0


class Choice(BaseModel):
    index: int
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None


class ChatCompletionResponse(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = 1
    model: str
    choices: list[Choice]
    usage: Usage
    prompt_logprobs: None = None


class EmbeddingResponse(BaseModel):
    id: str
    object: str = "list"
    created: int = 1
    model: str
    data: list[dict[str, Any]]
    usage: Usage


WORDS = ("Paris", " is", " nice")
USAGE = Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)


class LLMServer:
    """`user` in a request says what becomes of it."""

    model_id = "qwen-0.5b"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def chat(self, request: ChatCompletionRequest, raw_request_info: Any = None) -> AsyncGenerator[Any, None]:
        self.note(request)
        stream = bool(request.stream)  # a dict has no such attribute
        items = self._stream(request) if stream else self._whole(request)
        return self._batched(items) if stream else items

    async def embeddings(self, request: EmbeddingRequest, raw_request_info: Any = None) -> AsyncGenerator[Any, None]:
        self.note(request)
        return self._embedded(request)

    def note(self, request: Any) -> None:
        self.seen.append(request)

    def _refused(self, request: Any) -> ErrorResponse | None:
        if request.model != self.model_id:
            message = f"The model `{request.model}` does not exist."
            return ErrorResponse(error=ErrorInfo(message=message, type="NotFoundError", param="model", code=404))
        if request.user == "long":
            message = "This model's maximum context length is 512 tokens. However, your request has 600 input tokens."
            return ErrorResponse(error=ErrorInfo(message=message, type="BadRequestError", code=400))
        return None

    async def _whole(self, request: ChatCompletionRequest) -> AsyncGenerator[Any, None]:
        if (refused := self._refused(request)) is not None:
            yield refused
            return
        choice = Choice(index=0, message={"role": "assistant", "content": "".join(WORDS)}, finish_reason="stop")
        yield ChatCompletionResponse(
            id=f"chatcmpl-{request.request_id}", model=self.model_id, choices=[choice], usage=USAGE
        )

    async def _stream(self, request: ChatCompletionRequest) -> AsyncGenerator[Any, None]:
        if (refused := self._refused(request)) is not None:
            yield refused
            return
        for word in WORDS:
            yield self._text(Choice(index=0, delta={"content": word}))
            if request.user == "breaks":
                failed = ErrorResponse(error=ErrorInfo(message="it broke", type="InternalServerError", code=500))
                yield f"data: {failed.model_dump_json()}\n\n"
                yield "data: [DONE]\n\n"
                return
        yield self._text(Choice(index=0, delta={}, finish_reason="stop"))
        if (request.stream_options or {}).get("include_usage"):
            yield self._text(usage=USAGE)
        yield "data: [DONE]\n\n"

    def _text(self, *choices: Choice, usage: Usage | None = None) -> str:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model_id}
        listed = [choice.model_dump(exclude={"message"}) for choice in choices]
        return f"data: {json.dumps({**chunk, 'choices': listed, 'usage': usage and usage.model_dump()})}\n\n"

    async def _batched(self, items: AsyncGenerator[Any, None]) -> AsyncGenerator[list[Any], None]:
        """The items by two, as Ray's batcher yields those of one interval."""
        batch = []
        async for item in items:
            batch.append(item)
            if len(batch) == 2:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _embedded(self, request: EmbeddingRequest) -> AsyncGenerator[Any, None]:
        if (refused := self._refused(request)) is not None:
            yield refused
            return
        inputs = [request.input] if isinstance(request.input, str) else request.input
        data = [{"object": "embedding", "index": at, "embedding": [0.5] * 8} for at, _ in enumerate(inputs)]
        usage = Usage(prompt_tokens=4, total_tokens=4)
        yield EmbeddingResponse(id="embd-1", model=self.model_id, data=data, usage=usage)


def models() -> types.ModuleType:
    """The module of request models, which can't be imported where no engine is installed."""
    made = types.ModuleType(MODELS)
    made.ChatCompletionRequest, made.EmbeddingRequest = ChatCompletionRequest, EmbeddingRequest  # type: ignore[attr-defined]
    return made


def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the adapter find the models of this module."""
    monkeypatch.setitem(sys.modules, MODELS, models())
    parent = types.ModuleType("ray.serve.llm")
    parent.openai_api_models = sys.modules[MODELS]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.serve.llm", parent)


class Handle:
    """The handle of an `LLMServer` in this process. What it is given must be pickled, as Serve would."""

    def __init__(self, server: Any, options: dict[str, Any] | None = None, calls: list[dict[str, Any]] | None = None):
        self._server, self._options = server, options or {}
        self.calls: list[dict[str, Any]] = [] if calls is None else calls

    def options(self, **options: Any) -> "Handle":
        return Handle(self._server, {**self._options, **options}, self.calls)

    def __getattr__(self, method: str) -> Any:
        return types.SimpleNamespace(remote=lambda *arguments: self._begin(method, arguments))

    def _begin(self, method: str, arguments: tuple[Any, ...]) -> "Items":
        self.calls.append(self._options)
        return Items(getattr(self._server, method), pickle.loads(pickle.dumps(arguments)))


class Items:
    def __init__(self, method: Any, arguments: tuple[Any, ...]):
        self._method, self._arguments = method, arguments
        self._items: AsyncGenerator[Any, None] | None = None
        self.cancelled = False

    def __aiter__(self) -> "Items":
        return self

    async def __anext__(self) -> Any:
        if self._items is None:
            self._items = await self._method(*self._arguments)
        return await anext(self._items)

    def cancel(self) -> None:
        self.cancelled = True

"""A deployment before Ray Serve LLM: OpenAI's requests as dicts in, dicts and server-sent events out.

Breakwater's kind `serve` asks it by handle. One file that imports none of ours, so that it can be copied into the image
of the GPUs; docs/gpu-tier.md shows how it is deployed. Serve LLM's own deployments take vLLM's (or SGLang's) request
models and return their answers, which can't even be read where that engine is not installed. So this stands beside it.

What it knows of Serve LLM is in Ray 2.60, `ray/llm/_internal/serve/core`: `server/llm_server.py` (an answer is the one
item of a stream; a stream has lists of texts; an error is an `ErrorResponse`, the first item), `ingress/ingress.py`
(sessions, LoRA) and `ingress/utils.py` (what pydantic reads lazily can't be pickled).
"""

from collections.abc import AsyncGenerator
from typing import Any

from pydantic import TypeAdapter, ValidationError


class ServeLLM:
    """`server` is the handle of an `LLMServer`, as `ray.serve.llm.build_llm_deployment` makes one."""

    def __init__(self, server: Any):
        from ray.serve.llm.openai_api_models import ChatCompletionRequest, EmbeddingRequest

        self._server = server.options(stream=True)
        self._chats: TypeAdapter[Any] = TypeAdapter(ChatCompletionRequest)
        self._embeddings: TypeAdapter[Any] = TypeAdapter(EmbeddingRequest)

    async def chat(self, request: dict[str, Any]) -> Any:
        """Return a chat completion or an error as a dict; where it is to be a stream, a generator of its events."""
        try:
            asked = picklable(self._chats.validate_python(request))
        except ValueError as error:  # of pydantic too
            refused = refusal(error)
            return _yield(refused) if request.get("stream") else refused
        items = self._method("chat", request).remote(asked, None)
        return _events(items) if request.get("stream") else await _only(items)

    async def embeddings(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return embeddings or an error as a dict."""
        try:
            asked = self._embeddings.validate_python(request)
        except ValidationError as error:
            return refusal(error)
        return await _only(self._method("embeddings", request).remote(asked, None))

    def _method(self, name: str, request: dict[str, Any]) -> Any:
        """Return the server's method, for the request's session and LoRA adapter (`BASE:ADAPTER`), if it has them."""
        options: dict[str, str] = {}
        if session := _session():
            options["session_id"] = session
        if ":" in (model := str(request.get("model") or "")):
            options["multiplexed_model_id"] = model
        return getattr(self._server.options(**options) if options else self._server, name)


def _session() -> str:
    """Return the session of the call that is answered. Serve hands it on to no second handle, and has no API for it."""
    from ray import serve

    context: Any = serve.context
    try:
        return str(context._get_serve_request_context().session_id or "")
    except AttributeError:
        return ""


def picklable(request: Any) -> Any:
    """Return the request with lists in the places that pydantic would read lazily (pydantic/pydantic#9467)."""
    for at, message in enumerate(request.messages):
        if not isinstance(message, dict):
            message = request.messages[at] = message.model_dump()  # SGLang's
        for key in ("content", "tool_calls"):
            value = message.get(key)
            if value is not None and not isinstance(value, str | list):
                message[key] = list(value)
    return request


def refusal(error: ValueError) -> dict[str, Any]:
    """Return OpenAI's error for a request that the engine's model of requests does not take."""
    faults = error.errors(include_url=False, include_input=False) if isinstance(error, ValidationError) else []
    texts = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:5]]
    param = str(faults[0]["loc"][0]) if faults and faults[0]["loc"] else None
    message = "; ".join(texts) or str(error)
    return {"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}}


async def _only(items: Any) -> dict[str, Any]:
    """Return the first item of a call that is no stream, as a dict. The call's end is waited for."""
    first: Any = None
    try:
        async for item in items:
            first = item if first is None else first
    except BaseException:
        items.cancel()
        raise
    one: Any = first[0] if isinstance(first, list) and first else first
    if one is None:
        return {"error": {"message": "the engine returned nothing", "type": "InternalServerError", "code": 500}}
    return dict(one.model_dump(mode="json"))


async def _events(items: Any) -> AsyncGenerator[Any, None]:
    """Yield a stream's events, as many at a time as come together: bytes, and a dict for an error."""
    ended = False
    try:
        async for item in items:
            parts = item if isinstance(item, list) else [item]
            texts = "".join(part for part in parts if isinstance(part, str))
            if texts:
                yield texts.encode()
            for part in parts:
                if not isinstance(part, str):
                    yield part.model_dump(mode="json")
        ended = True
    finally:
        if not ended:
            items.cancel()


async def _yield(item: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    yield item

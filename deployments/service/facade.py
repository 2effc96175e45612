"""The facade that agents call: a prompt in, an answer with who gave it out, and what is known of the providers.

Pure over a Service: dicts in and out, errors included, so a caller on the cluster needs none of our code.
Rates are percentages, times milliseconds, states lower case.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.errors import BadRequest, BreakwaterError, error_dict
from deployments.openai_api.foreign_answer import ForeignAnswer
from deployments.service.python_api import PythonApi
from deployments.service.service import Service
from deployments.usage.caller import Caller

_OURS = frozenset({"messages", "stream", "stream_options"})  # fields that the facade itself sets


class Facade:
    def __init__(self, service: Service):
        self._service = service
        self._python = PythonApi(service)

    async def generate_completion(
        self,
        prompt: Any,
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        trace: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Answer `prompt`, a text or a list of messages: `response`, `provider_used`, `model`, `usage`, ...

        `options` are any other fields of OpenAI's request. On failure `{"error": ..., "status": ...}`.
        """
        gathered = Gathered()
        try:
            request = self._request(prompt, model, temperature, max_tokens, options)
        except BreakwaterError as error:
            return error_dict(error)
        caller = Caller("handle", tenant_id, agent_id, trace=trace)
        answer = await self._python.chat(request, timeout_seconds, drop_unsupported, caller)
        if _is_error(answer):
            return _of_prompt(answer)
        try:
            gathered.take(answer)
            return gathered.result()
        except BreakwaterError as error:
            return {**error_dict(error), **gathered.provider()}

    async def generate_streaming_completion(
        self,
        prompt: Any,
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        trace: Any = None,
        **options: Any,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """`{"delta": text}` as it comes, then what `generate_completion` would have given, or its error."""
        gathered = Gathered()
        try:
            request = self._request(prompt, model, temperature, max_tokens, options)
        except BreakwaterError as error:
            yield error_dict(error)
            return
        request["stream_options"] = {"include_usage": True}
        caller = Caller("handle", tenant_id, agent_id, trace=trace)
        stream = self._python.stream_chat(request, timeout_seconds, drop_unsupported, caller)
        try:
            async with contextlib.aclosing(stream) as chunks:
                async for chunk in chunks:
                    if _is_error(chunk):
                        yield {**_of_prompt(chunk), **gathered.provider()}
                        return
                    if text := gathered.take(chunk):
                        yield {"delta": text}
            yield gathered.result()
        except BreakwaterError as error:
            yield {**error_dict(error), **gathered.provider()}

    def _request(
        self, prompt: Any, model: Any, temperature: Any, max_tokens: Any, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        if taken := _OURS & options.keys():
            name = min(taken)
            raise BadRequest(f"Invalid '{name}': give the conversation as 'prompt'.", name, "invalid_value")
        named = {"temperature": temperature, "max_tokens": max_tokens}
        return {
            **options,
            **{key: value for key, value in named.items() if value is not None},
            "model": self._service.failover.rows.default if model is None else model,
            "messages": _messages(prompt),
        }

    async def get_usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> dict[str, Any]:
        return await self._service.queries.usage_stats(tenant_id, agent_id)

    async def get_system_health(self) -> dict[str, Any]:
        return await self._service.operations.system_health()

    async def get_health_summary(self) -> dict[str, Any]:
        return await self._service.operations.health_summary()

    async def get_all_provider_health(self) -> dict[str, Any]:
        """Provider's name to its health, in order of preference."""
        return dict((await self._service.operations.health_summary())["provider_health"])

    async def get_provider_health(self, name: str) -> dict[str, Any]:
        return await errors_as_dicts(self._service.operations.provider_health(name))

    async def force_provider_recovery(self, name: str) -> dict[str, Any]:
        """Let the next request try it, whatever its circuit says; its health afterwards."""
        return await errors_as_dicts(self._service.operations.command("recover", name))

    async def reset_provider_stats(self, name: str) -> dict[str, Any]:
        """Forget its figures and close its circuits; its health afterwards."""
        return await errors_as_dicts(self._service.operations.command("reset", name))

    async def isolate(self, name: str, seconds: float | None = None) -> dict[str, Any]:
        return await errors_as_dicts(self._service.operations.command("isolate", name, seconds))

    async def restore(self, name: str) -> dict[str, Any]:
        return await errors_as_dicts(self._service.operations.command("restore", name))

    async def thresholds(self, changes: Any = None) -> dict[str, Any]:
        return await errors_as_dicts(self._service.operations.thresholds(changes))


@dataclass(slots=True)
class Gathered:
    """An answer as it is put together, and who gave it."""

    began: float = field(default_factory=time.perf_counter)
    by: Mapping[str, Any] = field(default_factory=dict)
    answer: ForeignAnswer = field(default_factory=ForeignAnswer)

    def take(self, data: Mapping[str, Any]) -> str:
        """One completion or chunk; the text that it brought. Raises NoAnswer for what can't be read."""
        # Only the first is ours: a server may have a field of that name too.
        self.by = self.by or data.get("breakwater") or {}
        return self.answer.take(data)

    def provider(self) -> dict[str, Any]:
        return {"provider_used": self.by["provider"]} if self.by else {}

    def result(self) -> dict[str, Any]:
        """`attempts` counts the providers that were asked; `model` is the one that answered. Raises NoAnswer."""
        made: dict[str, Any] = {
            "response": self.answer.text,
            "provider_used": self.by["provider"],
            "model": self.by["model"],
            "usage": self.answer.usage,
            "attempts": self.by["attempts"],
            "latency_ms": round((time.perf_counter() - self.began) * 1000, 1),
            "degraded": self.by["degraded"],
            "dropped": self.by["dropped"],
            "finish_reason": self.answer.finish,
        }
        return made | ({"tool_calls": calls} if (calls := self.answer.tool_calls) else {})


def _messages(prompt: Any) -> list[Any]:
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt:
        return prompt
    raise BadRequest("Invalid 'prompt': a text or a list of messages is needed.", "prompt", "invalid_value")


def _is_error(answer: Mapping[str, Any]) -> bool:
    """Is it one of ours? A server may have written there that there is none."""
    return bool(answer.get("error")) and isinstance(answer["error"], Mapping)


def _of_prompt(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An error names the argument that the caller wrote, which is no `messages`."""
    error = dict(answer["error"])
    if isinstance(param := error.get("param"), str) and param.partition(".")[0] == "messages":
        error["param"] = "prompt" + param.removeprefix("messages")
        error["message"] = error["message"].replace("'messages", "'prompt", 1)
    return {"status": 504 if error.get("code") == "deadline_exceeded" else 503, **answer, "error": error}


async def errors_as_dicts(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The answer, or the error as a dict: no class of ours is on the caller's path."""
    try:
        return await answer
    except BreakwaterError as error:
        return error_dict(error)

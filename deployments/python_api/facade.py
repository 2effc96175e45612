"""The facade that agents call: a prompt in, a completion out, and the health of the providers.

Pure over a Service: dicts in and out, errors included, so a caller on the cluster needs none of our code.
`service/answers.py` documents the dicts.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from deployments.errors import BadRequest, BreakwaterError, ErrorAnswer, error_dict
from deployments.openai_api.json_types import JsonObject
from deployments.python_api.chats import PythonApi
from deployments.python_api.foreign_answer import ForeignAnswer
from deployments.service.answers import Completion, HealthSummary, ProviderHealth, SystemHealth, Thresholds
from deployments.service.arguments import CallOptions
from deployments.usage.caller import Caller

if TYPE_CHECKING:
    from deployments.service.service import Service

T = TypeVar("T")
_RESERVED = frozenset({"messages", "stream", "stream_options"})  # fields that the facade itself sets


class Facade:
    def __init__(self, service: "Service"):
        self._service = service
        self._python = PythonApi(service)

    async def generate_completion(
        self,
        prompt: object,
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        trace: object = None,
        scope: object = None,
        **options: object,
    ) -> JsonObject:
        """Answer `prompt`, a text or a list of messages, with a `Completion`.

        `options` are any other fields of OpenAI's request. On failure return `{"error": ..., "status": ...}`.
        """
        gathered = Gathered()
        try:
            request = self._request(prompt, model, temperature, max_tokens, options)
        except BreakwaterError as error:
            return error_dict(error)
        caller = Caller("handle", tenant_id, agent_id, trace=trace, scope=scope)
        answer = await self._python.chat(request, CallOptions(timeout_seconds, drop_unsupported, caller))
        if _is_error(answer):
            return _name_prompt(answer)
        try:
            gathered.take(answer)
            return gathered.result()
        except BreakwaterError as error:
            return {**error_dict(error), **gathered.provider()}

    async def generate_streaming_completion(
        self,
        prompt: object,
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        drop_unsupported: str | None = None,
        trace: object = None,
        scope: object = None,
        **options: object,
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield each piece of text as `{"delta": text}`, then what `generate_completion` would have returned."""
        gathered = Gathered()
        try:
            request = self._request(prompt, model, temperature, max_tokens, options)
        except BreakwaterError as error:
            yield error_dict(error)
            return
        request["stream_options"] = {"include_usage": True}
        caller = Caller("handle", tenant_id, agent_id, trace=trace, scope=scope)
        stream = self._python.stream_chat(request, CallOptions(timeout_seconds, drop_unsupported, caller))
        try:
            async with contextlib.aclosing(stream) as chunks:
                async for chunk in chunks:
                    if _is_error(chunk):
                        yield {**_name_prompt(chunk), **gathered.provider()}
                        return
                    if text := gathered.take(chunk):
                        yield {"delta": text}
            yield gathered.result()
        except BreakwaterError as error:
            yield {**error_dict(error), **gathered.provider()}

    def _request(
        self, prompt: object, model: object, temperature: object, max_tokens: object, options: Mapping[str, object]
    ) -> dict[str, Any]:
        if reserved := _RESERVED & options.keys():
            name = min(reserved)
            raise BadRequest(f"Invalid '{name}': give the conversation as 'prompt'.", name, "invalid_value")
        named = {"temperature": temperature, "max_tokens": max_tokens}
        return {
            **options,
            **{key: value for key, value in named.items() if value is not None},
            "model": self._service.failover.rows.default if model is None else model,
            "messages": _messages(prompt),
        }

    async def get_usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> JsonObject:
        return await self._service.queries.usage_stats(tenant_id, agent_id)

    async def get_system_health(self) -> SystemHealth:
        return await self._service.operations.system_health()

    async def get_health_summary(self) -> HealthSummary:
        return await self._service.operations.health_summary()

    async def get_all_provider_health(self) -> dict[str, ProviderHealth]:
        """Return each provider's health by its name, in order of preference."""
        return (await self._service.operations.health_summary())["provider_health"]

    async def get_provider_health(self, name: str) -> ProviderHealth | ErrorAnswer:
        return await errors_as_dicts(self._service.operations.provider_health(name))

    # What HTTP asks the admin key for is asked for it here too.

    async def force_provider_recovery(self, name: str, admin_key: object = None) -> ProviderHealth | ErrorAnswer:
        """Let the next request try the provider, whatever its circuits say. Return its health afterwards."""
        return await self._command("recover", name, admin_key)

    async def reset_provider_stats(self, name: str, admin_key: object = None) -> ProviderHealth | ErrorAnswer:
        """Close the provider's circuits and forget its counts. Return its health afterwards."""
        return await self._command("reset", name, admin_key)

    async def isolate(
        self, name: str, seconds: float | None = None, admin_key: object = None
    ) -> ProviderHealth | ErrorAnswer:
        """Take the provider out, by default for an hour. Return its health afterwards."""
        return await self._command("isolate", name, admin_key, seconds)

    async def restore(self, name: str, admin_key: object = None) -> ProviderHealth | ErrorAnswer:
        """End the provider's isolation. Return its health afterwards."""
        return await self._command("restore", name, admin_key)

    async def thresholds(self, changes: object = None, admin_key: object = None) -> Thresholds | ErrorAnswer:
        try:
            self._service.authenticator.admit_by_handle(admin_key)
            return await self._service.operations.thresholds(changes)
        except BreakwaterError as error:
            return error_dict(error)

    async def _command(
        self, verb: str, name: str, admin_key: object, seconds: object = None
    ) -> ProviderHealth | ErrorAnswer:
        try:
            self._service.authenticator.admit_by_handle(admin_key)
            return await self._service.operations.command(verb, name, seconds)
        except BreakwaterError as error:
            return error_dict(error)


@dataclass(slots=True)
class Gathered:
    """A completion that is put together from an answer or its chunks.

    Attributes:
        began: when the call began, in seconds of the performance counter.
        served_by: the field `breakwater` of the answer, a `ServedBy`; empty until it has come.
        answer: the text, usage and calls so far.
    """

    began: float = field(default_factory=time.perf_counter)
    served_by: JsonObject = field(default_factory=dict)
    answer: ForeignAnswer = field(default_factory=ForeignAnswer)

    def take(self, data: JsonObject) -> str:
        """Add a whole completion or a chunk, and return its text. Raises NoAnswer if it can't be read."""
        # Only the first such field is ours: a provider's chunk may have a field of that name too.
        self.served_by = self.served_by or data.get("breakwater") or {}
        return self.answer.take(data)

    def provider(self) -> dict[str, str]:
        """Return `{"provider_used": name}`, or an empty dict while it is not known."""
        return {"provider_used": self.served_by["provider"]} if self.served_by else {}

    def result(self) -> Completion:
        """Return the whole completion. Raises NoAnswer if the answer has neither text nor calls."""
        completion: Completion = {
            "response": self.answer.text,
            "provider_used": self.served_by["provider"],
            "model": self.served_by["model"],
            "usage": self.answer.usage,
            "attempts": self.served_by["attempts"],
            "latency_ms": round((time.perf_counter() - self.began) * 1000, 1),
            "degraded": self.served_by["degraded"],
            "dropped": self.served_by["dropped"],
            "finish_reason": self.answer.finish,
        }
        if calls := self.answer.tool_calls:
            completion["tool_calls"] = calls
        return completion


def _messages(prompt: object) -> list[Any]:
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt:
        return prompt
    raise BadRequest("Invalid 'prompt': a text or a list of messages is needed.", "prompt", "invalid_value")


def _is_error(answer: JsonObject) -> bool:
    """Return whether an answer is an error of ours. A provider may write `"error": null` into an answer."""
    return bool(answer.get("error")) and isinstance(answer["error"], Mapping)


def _name_prompt(answer: JsonObject) -> JsonObject:
    """Return an error that names `prompt`, as the caller wrote it, instead of `messages`."""
    error = dict(answer["error"])
    if isinstance(param := error.get("param"), str) and param.partition(".")[0] == "messages":
        error["param"] = "prompt" + param.removeprefix("messages")
        error["message"] = error["message"].replace("'messages", "'prompt", 1)
    return {"status": 504 if error.get("code") == "deadline_exceeded" else 503, **answer, "error": error}


async def errors_as_dicts(answer: Awaitable[T]) -> T | ErrorAnswer:
    """Return the answer, or its error as a dict: the caller may not have our exception classes on its path."""
    try:
        return await answer
    except BreakwaterError as error:
        return error_dict(error)

"""The Python client of Breakwater for any app on the cluster. This file needs only Ray: import it, or copy it.

    llm = connect()                                    # the application's name, "llm" by default
    answer = await llm.chat({"model": "default", "messages": [...]})
    async for chunk in llm.stream_chat({...}): ...     # closing it cancels the call upstream
    llm.sync.chat({...})                               # the same, without a running event loop

`timeout` is the caller's deadline in seconds. The application keeps it, and ends the call with a DeadlineExceeded
that lists the attempts. If the application does not answer, the client ends the call itself, a second later. A call
that finds no way to the application is Unavailable, and its message says why and what to do.
Errors are raised as exceptions:

BreakwaterError               `status`, `code`, `param`, `attempts`, `retry_after`; all of them survive pickling
├── CallerError               4xx: the request is at fault, so the same request fails again
│   ├── BadRequest            400, 413, ...: `param` names the field
│   ├── NotAllowed            401, 403
│   └── NotFound              404: no such model or provider
├── Limited                   402, 429: all providers throttle, or a limit is used up; `retry_after` says when to retry
├── NoAnswer                  503: all providers failed, or the stream broke off
│   └── DeadlineExceeded      504
├── Unavailable               503: Breakwater itself can't be reached, or is restarting; the message says what to do
└── InternalError             500: a bug of Breakwater
"""

import asyncio
import contextlib
import copy
import functools
import json
import logging
import os
import platform
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

log = logging.getLogger(__name__)

MARGIN = 1.0  # how long after a deadline the application's own error may still arrive
PATIENCE = 120.0  # without a deadline: how long the first answer may take
CONNECT_SECONDS = 30.0  # how long a call waits for a connection, deadline or not; Ray alone may wait for ever
LOOK_SECONDS = 1.0  # how long the control store of the cluster may take to say who it is
ANOTHER_RAY = "local"  # what RAY_ADDRESS says for a Ray of its own, which `serve run` starts
INGRESS = "Ingress"  # the deployment of ours that has the methods below
PLAN_SECONDS = 2.0  # how long functions wait for their plan; then they run without one
STALE_SECONDS = 60.0  # how long after its expiry a plan may still be used while no newer one arrives
MOST_PLANS = 64  # plans that are kept, one for each set of names
NEARLY = 0.95  # a time share of at least this part of a function's own limit counts as the whole limit
REPORT_SECONDS = 0.1  # how long a success waits for others before it is reported
SETTLE_SECONDS = 0.25  # how long the caller waits for the report of a failure to arrive
RENEWALS = 50  # of a probe's lease, so that one function can't hold a circuit for ever

Json = dict[str, Any]
Scope = str | Sequence[str] | None  # tags of targets
Function = Callable[[], Awaitable[Any]]
P = ParamSpec("P")
R = TypeVar("R")


class BreakwaterError(Exception):
    """The base of all errors. Made from the application's answer, or here if there was none.

    Attributes:
        status: HTTP status.
        code, param: as in OpenAI's error object.
        attempts: each candidate of the request, skipped or asked.
        retry_after: seconds until the same request may succeed.
        explained: what the request went through, if it was called with `explain`.
    """

    def __init__(
        self,
        message: str,
        status: int = 500,
        code: str | None = None,
        param: str | None = None,
        attempts: Sequence[Json] = (),
        retry_after: float | None = None,
        explained: Json | None = None,
    ):
        super().__init__(message, status, code, param, attempts, retry_after, explained)
        self.status, self.code, self.param = status, code, param
        self.attempts, self.retry_after, self.explained = list(attempts), retry_after, explained

    def __str__(self) -> str:
        return str(self.args[0])


class CallerError(BreakwaterError):
    pass


class BadRequest(CallerError):
    pass


class NotAllowed(CallerError):
    pass


class NotFound(CallerError):
    pass


class Limited(BreakwaterError):
    pass


class NoAnswer(BreakwaterError):
    pass


class DeadlineExceeded(NoAnswer):
    pass


class Unavailable(BreakwaterError):
    pass


class InternalError(BreakwaterError):
    pass


_CLASSES: Mapping[int, type[BreakwaterError]] = {
    **dict.fromkeys((401, 403), NotAllowed),
    **dict.fromkeys((402, 429), Limited),
    404: NotFound,
    500: InternalError,
    504: DeadlineExceeded,
}


def error_from(data: Mapping[str, Any]) -> BreakwaterError:
    """Return the exception for an error dict: `{"error": {...}, "status": ..., "retry_after": ...}`."""
    error = data["error"]
    if not isinstance(error, Mapping):  # a provider's own error, in a chunk that was passed through
        return NoAnswer(f"The provider's stream ended with an error: {error}", 503, "malformed_answer")
    code = error.get("code")
    # An error at the end of a stream has no status.
    status = int(data.get("status") or (504 if code == "deadline_exceeded" else 503))
    kind = _CLASSES.get(status, BadRequest if status < 500 else Unavailable if code == "unavailable" else NoAnswer)
    attempts, retry_after = error.get("attempts") or (), data.get("retry_after")
    message, explained = error.get("message") or "no message", (data.get("breakwater") or {}).get("explained")
    return kind(message, status, code, error.get("param"), attempts, retry_after, explained)


def connect(app: str = "llm", *, patience: float = PATIENCE) -> "Client":
    """Return a client of the application `app`. It connects at its first use, and can be pickled.

    If Ray is not initialised yet, the client joins the cluster of RAY_ADDRESS or of this machine; it never starts a
    Ray. `patience` is how many seconds a call without `timeout` waits for its first answer.
    """
    return Client(app, patience)


@dataclass(frozen=True, slots=True)
class FailoverResult:
    """The result of `call_with_failover`."""

    value: Any  # what the function returned
    provider_used: str  # the name of the function
    attempts: list[Json]  # each function, skipped or called: provider, model, outcome, and more


class Client:
    def __init__(self, app: str = "llm", patience: float = PATIENCE):
        self.app = app
        self.patience = patience
        self.sync = SyncClient(self)
        # A handle belongs to the event loop that used it first.
        self._links: dict[asyncio.AbstractEventLoop, _Link] = {}

    def __reduce__(self) -> Any:
        return Client, (self.app, self.patience)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def chat(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> Json:
        """Return OpenAI's chat completion, with `breakwater: {provider, model, attempts, ...}`.

        The usage is recorded for `tenant_id` and `agent_id`. With `explain`, `breakwater["explained"]` says what the
        request went through. `session` is a name of the conversation: its next turn goes where its prompt is cached.
        `scope` are tags, as "eu,no-train" or a list: only a target that has all of them is asked.
        """
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return await self._call("chat", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    def stream_chat(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> AsyncGenerator[Json, None]:
        """Yield OpenAI's chunks, the first with `breakwater`; with `explain` the last too. Raises if it breaks off."""
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return self._stream("stream_chat", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    async def embed(
        self,
        request: Json,
        timeout: float | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        scope: Scope = None,
    ) -> Json:
        """Return OpenAI's embeddings, with `breakwater` as in `chat`."""
        arguments = (request, timeout, tenant_id, agent_id, explain)
        return await self._call("embed", *arguments, wait=timeout, **_trace(), **_where(None, scope))

    async def respond(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> Json:
        """Return the answer to a request of OpenAI's Responses API, with `breakwater` as in `chat`."""
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return await self._call("respond", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    def stream_respond(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> AsyncGenerator[Json, None]:
        """Yield the events of the Responses API, the first with `breakwater`. One that breaks off ends as failed."""
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return self._stream("stream_respond", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    async def message(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> Json:
        """Return the answer to a request of Anthropic's Messages API, with `breakwater` as in `chat`."""
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return await self._call("message", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    def stream_message(
        self,
        request: Json,
        timeout: float | None = None,
        drop_unsupported: str | None = None,
        tenant_id: str | None = None,
        agent_id: str | None = None,
        explain: bool = False,
        session: str | None = None,
        scope: Scope = None,
    ) -> AsyncGenerator[Json, None]:
        """Yield the events of the Messages API, the first with `breakwater`. One that breaks off ends with an error."""
        arguments = (request, timeout, drop_unsupported, tenant_id, agent_id, explain)
        return self._stream("stream_message", *arguments, wait=timeout, **_trace(), **_where(session, scope))

    async def generate_completion(
        self,
        /,
        prompt: str | list[Json],
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Json:
        """Answer `prompt`, a text or a list of messages.

        Returns `response`, `provider_used`, `model`, `usage`, `attempts`, `latency_ms` and more. `options` are any
        other fields of OpenAI's request, and `scope` as in `chat`.
        """
        arguments = (prompt, agent_id, tenant_id, model, temperature, max_tokens, timeout)
        return await self._call("generate_completion", *arguments, wait=timeout, **(_trace() | options))

    def generate_streaming_completion(
        self,
        /,
        prompt: str | list[Json],
        agent_id: str | None = None,
        tenant_id: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> AsyncGenerator[Json, None]:
        """Yield `{"delta": text}` for each piece, then what `generate_completion` returns. Raises if it breaks off."""
        arguments = (prompt, agent_id, tenant_id, model, temperature, max_tokens, timeout)
        return self._stream("generate_streaming_completion", *arguments, wait=timeout, **(_trace() | options))

    # The HTTP API, for `sdk_transport.py`. An error that the application answers is an answer like others.

    async def call_http_whole(self, request: Json, connect: float | None = None, read: float | None = None) -> Json:
        """Return the answer to `{method, url, headers, body}` as `{status, headers, body}`.

        `connect` is how many seconds to wait for a connection, `read` for the answer: then DeadlineExceeded is raised.
        """
        handle = await self._connected(connect)
        async with _over_there(read, self._silent(read), self._link()):
            return await _answer_of(handle.call_http_whole.remote(_traced(request)))

    async def call_http(
        self, request: Json, connect: float | None = None, read: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """Yield the same with the first piece of the body, then the other pieces. `read` is how long each may take."""
        handle, link, silent = await self._connected(connect), self._link(), self._silent(read)
        response, ended = None, False
        try:
            while not ended:
                async with _over_there(read, silent, link):
                    if response is None:
                        response = handle.options(stream=True).call_http.remote(_traced(request))
                    item = await anext(response, None)
                if item is None:
                    ended = True
                else:
                    yield item
        finally:
            if response is not None and not ended:
                response.cancel()

    async def get_request(self, request_id: str) -> Json:
        """Return what a request went through: skipped targets with reasons, and each attempt. Raises NotFound."""
        return await self._call("get_request", request_id)

    async def get_usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> Json:
        """Return the usage of a tenant, an agent, or all: the totals, and `by_model` a list."""
        return await self._call("get_usage_stats", tenant_id, agent_id)

    async def get_system_health(self) -> Json:
        return await self._call("get_system_health")

    async def get_health_summary(self) -> Json:
        return await self._call("get_health_summary")

    async def get_all_provider_health(self) -> Json:
        return await self._call("get_all_provider_health")

    async def get_provider_health(self, name: str) -> Json:
        return await self._call("get_provider_health", name)

    # Where the application has an `auth.admin_key_env`, these need that key.

    async def force_provider_recovery(self, name: str, admin_key: str | None = None) -> Json:
        """Let the next request try the provider, whatever its circuits say. Return its health afterwards."""
        return await self._call("force_provider_recovery", name, **_operator(admin_key))

    async def reset_provider_stats(self, name: str, admin_key: str | None = None) -> Json:
        """Close the provider's circuits and forget its counts. Return its health afterwards."""
        return await self._call("reset_provider_stats", name, **_operator(admin_key))

    async def isolate(self, name: str, seconds: float | None = None, admin_key: str | None = None) -> Json:
        """Take the provider out, by default for an hour. Return its health afterwards."""
        return await self._call("isolate", name, seconds, **_operator(admin_key))

    async def restore(self, name: str, admin_key: str | None = None) -> Json:
        """End the provider's isolation. Return its health afterwards."""
        return await self._call("restore", name, **_operator(admin_key))

    async def call_with_failover(
        self,
        primary_provider: str,
        provider_functions: Mapping[str, Function],
        *,
        model: str | None = None,
        timeout: float = 60.0,
        attempt_timeout: float | None = None,
        outcomes: Mapping[type[Exception], str] | None = None,
    ) -> FailoverResult:
        """Call your own async functions, the primary's first, under the application's circuits.

        A function runs under the circuit of its provider's model in the row `model`. A function with a name like
        `openai/my-agent` has a circuit of its own. `outcome_of` maps an exception to an outcome, and `outcomes` maps
        further classes. An exception that is not the provider's fault is raised as it is, and no other function
        is called. `attempt_timeout` is in seconds, by default the application's `timeout_seconds`. Raises NoAnswer
        when all functions have failed, and DeadlineExceeded after `timeout` seconds.
        """
        if unknown := set((outcomes or {}).values()) - OUTCOMES.keys():
            message = f"No such outcomes: {', '.join(sorted(unknown))}. Known ones: {', '.join(OUTCOMES)}."
            raise BadRequest(message, 400, "invalid_value", "outcomes")
        link = self._link()
        under_way = _Failover(link, provider_functions, outcomes or {}, timeout, attempt_timeout)
        return await under_way.run(primary_provider, model)

    async def aclose(self) -> None:
        """Send the reports of functions that are still waiting."""
        if (link := self._links.get(asyncio.get_running_loop())) is not None:
            link.send()
            await link.settle()

    def _link(self) -> "_Link":
        loop = asyncio.get_running_loop()
        if (link := self._links.get(loop)) is None:
            self._links = {known: kept for known, kept in self._links.items() if not known.is_closed()}
            link = self._links[loop] = _Link(self)
        return link

    async def _handle(self) -> Any:
        link = self._link()
        if link.handle is None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    link.handle = await asyncio.shield(link.connecting())
            except TimeoutError:
                raise await _never_connected(CONNECT_SECONDS) from None
        return link.handle

    async def _connected(self, seconds: float | None) -> Any:
        async with _over_there(seconds, self._silent(seconds), self._link()):
            return await self._handle()

    def _silent(self, seconds: float | None) -> BreakwaterError:
        message = f"The application '{self.app}' has sent nothing for {seconds} s."
        return DeadlineExceeded(message, 504, "deadline_exceeded")

    async def _call(self, method: str, *arguments: Any, wait: float | None = None, **named: Any) -> Json:
        async with _over_there(*self._limit(wait), self._link()):
            answer = await _answer_of(getattr(await self._handle(), method).remote(*arguments, **named))
        if answer.get("error"):  # a provider may write `"error": null` into an answer
            raise error_from(answer)
        return answer

    async def _stream(
        self, method: str, *arguments: Any, wait: float | None = None, **named: Any
    ) -> AsyncGenerator[Json, None]:
        link, (seconds, late) = self._link(), self._limit(wait)
        until = asyncio.get_running_loop().time() + seconds
        left: float | None = seconds
        response, ended = None, False
        try:
            while True:
                async with _over_there(left, late, link):
                    if response is None:
                        handle = (await self._handle()).options(stream=True)
                        response = getattr(handle, method).remote(*arguments, **named)
                    item = await anext(response, None)
                if item is None:
                    ended = True
                    return
                if item.get("error"):
                    raise error_from(item)
                yield item
                # Without a deadline the limit holds for the first item only.
                left = None if wait is None else until - asyncio.get_running_loop().time()
        finally:
            if response is not None and not ended:
                response.cancel()

    def _limit(self, wait: Any) -> tuple[float, BreakwaterError]:
        """Return how many seconds to wait, and the error after that. The application refuses an invalid deadline."""
        if isinstance(wait, int | float) and wait > 0:
            message = f"The deadline passed, and the application '{self.app}' did not answer."
            return wait + MARGIN, DeadlineExceeded(message, 504, "deadline_exceeded")
        message = f"The application '{self.app}' did not answer within {self.patience:g} s."
        return self.patience, Unavailable(message, 503, "unavailable")


async def _answer_of(response: Any) -> Json:
    """Return what a call answers. It ends over there too if its caller leaves."""
    try:
        answer: Json = await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    return answer


def _operator(admin_key: str | None) -> Json:
    """Return the argument with the operators' key; none without one, which an earlier application does not know."""
    return {} if admin_key is None else {"admin_key": admin_key}


def _trace() -> Json:
    """Return the caller's current OpenTelemetry span as W3C headers, so that its trace continues in Breakwater."""
    known = sys.modules.get("opentelemetry.trace")  # a caller that has not imported it has no span
    here = known.get_current_span().get_span_context() if known else None
    if here is None or not here.is_valid:
        return {}
    parent = f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags & 1:02x}"
    return {"trace": {"traceparent": parent, "tracestate": here.trace_state.to_header()}}


def _where(session: str | None, scope: Scope) -> Json:
    """Return a conversation's name and a scope as arguments; without them none, as earlier applications know none."""
    named = {} if session is None else {"session": session}
    return named if scope is None else {**named, "scope": scope if isinstance(scope, str) else list(scope)}


def _traced(request: Json) -> Json:
    """Return an HTTP request with the headers of the caller's current span, if it has none of its own."""
    if any(name.lower() == "traceparent" for name, _ in request["headers"]):
        return request
    return {**request, "headers": [*request["headers"], *_trace().get("trace", {}).items()]}


@contextlib.asynccontextmanager
async def _over_there(seconds: float | None, late: BreakwaterError, link: "_Link") -> AsyncGenerator[None, None]:
    """Turn every failure of a call into a typed error, and end the call with `late` after `seconds`.

    A call that has found no way to the application has no deadline to exceed: it is Unavailable.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except BreakwaterError:
        raise
    except TimeoutError as error:
        if link.handle is None:
            raise await _never_connected(seconds or CONNECT_SECONDS) from error
        raise await _gone() or late from error
    except Exception as error:
        away = isinstance(error, RayError | RayServeException | ConnectionError) and not isinstance(error, RayTaskError)
        if away or type(error).__module__.startswith("grpc"):
            raise _unavailable(f"Breakwater can't be reached: {_in_one_line(error)}") from error
        raise InternalError(_in_one_line(error)) from error


def _unavailable(sentence: str) -> Unavailable:
    return Unavailable(sentence, 503, "unavailable", retry_after=1.0)


def _in_one_line(error: BaseException) -> str:
    """Return an exception's class and message. Ray's messages have lines, and of some the first is empty."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


# The way to the application: this process joins Ray, and Serve has a handle. Both are found out in threads.

_joining = threading.Lock()


async def _in_thread(work: Callable[..., R], *arguments: Any) -> R:
    """Return what `work` returns in a thread of its own, which does not hold up the end of the process.

    What Ray does in there may never end, and a thread of the event loop's executor would be waited for.
    """
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work(*arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="breakwater-connect", daemon=True).start()
    return cast(R, await done)


def _handle_of(app: str) -> Any:
    """Return a handle of the application, and join the cluster first if this process has not. Raises Unavailable."""
    with _joining:
        if not ray.is_initialized():
            _join()
    # Serve caches one handle, and its router stays on the loop that used it first: so each loop gets a copy.
    return copy.copy(_found(app))


def _join() -> None:
    """Join the cluster of RAY_ADDRESS or of this machine."""
    # Ray itself would ask once a second for ever, or say nothing, with a wrong token or another version.
    if (why := _why_not_joined()) is not None:
        raise _unavailable(why)
    try:
        ray.init(address="auto", log_to_driver=False)
    except Exception as error:
        ray.shutdown()  # it may be half joined
        sentence = f"This process ({_own_versions()}) can't join Ray at {_address()}: {_in_one_line(error)}"
        raise _unavailable(sentence) from error


def _found(app: str) -> Any:
    """Return Serve's own handle of the application."""
    try:
        return serve.get_app_handle(app)
    except RayServeException as error:
        # After a deploy of a wrong config Serve knows no application, while its replicas serve on.
        with contextlib.suppress(KeyError, RayServeException):
            return serve.get_deployment_handle(INGRESS, app)
        raise _unavailable(_why_not_found(app)) from error


def _why_not_found(app: str) -> str:
    with contextlib.suppress(Exception):  # for an application that runs it wants classes of the application
        found = serve.status().applications[app]
        return f"The application '{app}' is {found.status.value}: {' '.join(found.message.split())[:500] or 'wait'}."
    if names := _deployed():
        return f"The cluster has no application '{app}', it has: {', '.join(names)}. connect() takes the name."
    return f"Ray runs at {_address()}, but no application is deployed there: `serve deploy` Breakwater first."


def _deployed() -> list[str]:
    """Return the names of the applications with a deployment. Serve has no public way that needs none of their code."""
    with contextlib.suppress(Exception):
        context: Any = serve.context
        controller = context._get_global_client()._controller
        return sorted({found.app_name for found in ray.get(controller.list_deployment_ids.remote(), timeout=5)})
    return []


async def _never_connected(seconds: float) -> BreakwaterError:
    why = await _looked(_why_unreachable if ray.is_initialized() else _why_not_joined)
    return _unavailable(why or f"This process has not reached Breakwater at {_address()} within {seconds:.3g} s.")


async def _gone() -> BreakwaterError | None:
    """Return the error if nothing answers where the cluster was that this process has joined."""
    why = await _looked(_why_unreachable) if ray.is_initialized() else None
    return None if why is None else _unavailable(f"{why} If it was started anew, start this process anew too.")


def _why_unreachable() -> str | None:
    with contextlib.suppress(Exception):
        return _why_not(ray.get_runtime_context().gcs_address, joined=True)
    return None


async def _looked(look: Callable[[], str | None]) -> str | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * LOOK_SECONDS):
            return await _in_thread(look)
    return None


def _address() -> str:
    """Return where the control store of the cluster is, or what RAY_ADDRESS says."""
    with contextlib.suppress(Exception):
        if ray.is_initialized():
            return str(ray.get_runtime_context().gcs_address)
    with contextlib.suppress(Exception):
        return _cluster_address(os.environ.get("RAY_ADDRESS", ""))
    return os.environ.get("RAY_ADDRESS") or "this machine"


def _own_versions() -> str:
    return f"Ray {ray.__version__}, Python {platform.python_version()}"


def _why_not_joined() -> str | None:
    """Return why this process has no way to the cluster and what to do; None if nothing speaks against it."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named == ANOTHER_RAY:
        return "RAY_ADDRESS=local would start another Ray: unset it, or set it to HOST:PORT of the cluster."
    if named.startswith("ray://"):
        return None  # Ray's own client, which finds out for itself
    try:
        return _why_not(_cluster_address(named))
    except ConnectionError:
        return "No Ray runs on this machine: start it, or set RAY_ADDRESS to HOST:PORT of the cluster."
    except Exception as error:  # Ray's names for all of this are private, and another version may have others
        log.debug("the cluster could not be looked up: %s", error)
        return None


def _cluster_address(named: str) -> str:
    from ray._private import services

    if not named:  # Ray, too, takes a token that is there for a cluster on this machine
        with contextlib.suppress(ImportError, TypeError):
            from ray._private.authentication.authentication_token_setup import (
                maybe_enable_token_auth_if_token_available,
            )

            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return str(services.canonicalize_bootstrap_address("auto"))


def _why_not(address: str, *, joined: bool = False) -> str | None:
    """Return why this process can't join, or reach, the cluster; None if the control store knows no reason."""
    ours = f"this process ({_own_versions()})"
    try:
        versions, sockets = _said_by_control_store(address)
    except Exception as error:
        code = getattr(error, "code", None)
        kind = code().name if callable(code) else type(error).__name__
        if kind in ("UNAUTHENTICATED", "AuthenticationError"):
            return f"Ray at {address} wants its token, and {ours} has none or another: {TOKEN}"
        if kind in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return f"No Ray answers {ours} at {address}: is the cluster running, and is RAY_ADDRESS right?"
        raise
    if joined:
        return None
    here = [path for path in sockets if os.path.exists(path) or not path.startswith("/")]  # on Windows it is no path
    mine = any(os.access(path, os.W_OK) or not path.startswith("/") for path in here)
    return explain_versions(address, versions, _own_versions()) or explain_place(address, bool(here), mine)


TOKEN = (
    "set RAY_AUTH_MODE=token, and put what `ray get-auth-token` prints on the head node into ~/.ray/auth_token, "
    "or name another file in RAY_AUTH_TOKEN_PATH."
)


def _said_by_control_store(address: str) -> tuple[str, list[str]]:
    """Return the versions of the cluster's Ray and Python, and where each node's Ray listens. It takes some 20 ms."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2

    wire: Any = gcs_service_pb2  # its classes are made when it is imported
    channel = init_grpc_channel(address)

    def fetch(service: str, method: str, **fields: Any) -> Any:
        call = channel.unary_unary(f"/ray.rpc.{service}GcsService/{method}")
        request = getattr(wire, f"{method}Request")(**fields)
        return getattr(wire, f"{method}Reply").FromString(call(request.SerializeToString(), timeout=LOOK_SECONDS))

    try:
        found = fetch("InternalKV", "InternalKVGet", key=b"CLUSTER_METADATA", namespace=b"cluster")
        nodes = fetch("NodeInfo", "GetAllNodeInfo").node_info_list
    finally:
        channel.close()
    known = json.loads(found.value)
    alive = [node.raylet_socket_name for node in nodes if not node.state]
    return f"Ray {known['ray_version']}, Python {known['python_version']}", alive


def explain_place(address: str, here: bool, mine: bool) -> str | None:
    """Return a sentence if no node is `here`, or if Ray's socket here is not `mine` to write to: Ray would abort."""
    if not here:
        return f"This machine is no node of the cluster at {address}: run this on a node, or use the HTTP API."
    if not mine:
        return f"Ray at {address} runs as another user of this machine, and lets only its own join: use the HTTP API."
    return None


def explain_versions(address: str, theirs: str, ours: str) -> str | None:
    """Return a sentence if Ray would refuse this process for its versions: it compares all three numbers."""
    if os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor":
        same = theirs.rpartition(".")[0] == ours.rpartition(".")[0]
    else:
        same = theirs == ours
    if same:
        return None
    return f"The cluster at {address} has {theirs}, and this process has {ours}: run it with the cluster's versions."


# The caller's own functions, under the application's circuits.

# The outcomes of a function, and whether the next function is called then. The application knows what each
# says of the provider's health.
OUTCOMES: Mapping[str, bool] = {
    "connect": True,  # no connection
    "timeout": True,
    "broken": True,  # the connection broke
    "server_error": True,
    "overloaded": True,
    "malformed": True,  # the answer can't be read
    "unclassified": True,  # counts as a failure of the provider
    "throttled": True,  # the provider is not called for `retry_after` seconds, if the exception has them
    "credential": True,  # the caller's own key, quota or model: does not count against the provider
    "quota": True,
    "model_missing": True,
    "conflict": True,
    "bad_request": False,  # the caller's own fault
    "content_filter": False,
}
_OF_STATUS: Mapping[int, str] = {
    401: "credential",
    402: "quota",
    403: "credential",
    404: "model_missing",
    408: "timeout",
    409: "conflict",
    429: "throttled",
    503: "overloaded",
    529: "overloaded",
}
_OF_CLASS: Sequence[tuple[type[Exception], str]] = (  # the first that fits
    (json.JSONDecodeError, "malformed"),
    (UnicodeDecodeError, "malformed"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connect"),
    (socket.gaierror, "connect"),
    (ConnectionError, "broken"),
    *((bug, "bad_request") for bug in (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError)),
    (OSError, "broken"),
    *((bug, "bad_request") for bug in (TypeError, ValueError, LookupError, AttributeError, NameError)),
    *((bug, "bad_request") for bug in (AssertionError, ArithmeticError, ImportError, NotImplementedError)),
)


def outcome_of(error: Exception) -> str:
    """Return the outcome of a function's exception: by its HTTP status if it has one, else by its class."""
    if (status := _status_of(error)) is not None:
        return _OF_STATUS.get(status, "server_error" if status >= 500 else "bad_request")
    return next((kind for known, kind in _OF_CLASS if isinstance(error, known)), "unclassified")


def _status_of(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}  # as boto3 has it
    found = [getattr(error, name, None) for name in ("status_code", "status", "code")]
    found += [getattr(response, "status_code", None), meta.get("HTTPStatusCode")]
    return next((x for x in found if isinstance(x, int) and 400 <= x < 600), None)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None) or {}
    with contextlib.suppress(TypeError, ValueError, LookupError):
        seconds = float(getattr(error, "retry_after", None) or headers["retry-after"])
        return seconds if 0 <= seconds < 1e6 else None
    return None


class _Link:
    """A client's state on one event loop: its handle, its fresh plans, and the reports to be sent."""

    def __init__(self, client: Client):
        self._client = client
        self.handle: Any = None
        self._connecting: asyncio.Future[Any] | None = None
        self._plans: dict[Any, tuple[float, Json]] = {}
        self._ended: list[Json] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Future[Any]] = set()

    def connecting(self) -> "asyncio.Future[Any]":
        """Return the handle to come. All calls wait for one attempt; after a failed one the next call makes another."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.ensure_future(_in_thread(_handle_of, self._client.app))
            self._connecting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait
        return self._connecting

    async def plan(self, names: Sequence[str], primary: str, model: str | None) -> Json:
        """Return the plan of which functions to call. Without Breakwater it is all of them, and nothing is reported."""
        key, now = (tuple(names), primary, model), asyncio.get_running_loop().time()
        until, kept = self._plans.get(key, (0.0, None))
        if kept is not None and now < until:
            return kept
        if kept is not None:
            self._keep(
                key, now + PLAN_SECONDS, kept
            )  # this call fetches a new plan, the others use the old one meanwhile
        asked = asyncio.ensure_future(self._client._call("begin_call", list(names), primary, model))
        try:
            async with asyncio.timeout(PLAN_SECONDS):
                plan: Json = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back_late_plan)
            raise
        except CallerError:
            raise
        except (BreakwaterError, TimeoutError) as error:
            asked.add_done_callback(self._give_back_late_plan)
            log.warning("functions run without circuits, their plan did not arrive: %s", type(error).__name__)
            plan = kept or _unguarded(names, primary)
            self._keep(key, now + PLAN_SECONDS + 1.0, plan)
            return plan
        self._plans.pop(key, None)
        if plan["fresh_seconds"]:
            self._keep(key, asyncio.get_running_loop().time() + plan["fresh_seconds"], plan)
        return plan

    def _keep(self, key: Any, until: float, plan: Json) -> None:
        """Keep a plan as the newest. Drop stale plans, and the oldest beyond `MOST_PLANS`: names may be endless."""
        self._plans.pop(key, None)
        self._plans[key] = (until, plan)
        stale = asyncio.get_running_loop().time() - STALE_SECONDS
        for old in [known for known, (over, _) in self._plans.items() if over < stale]:
            del self._plans[old]
        while len(self._plans) > MOST_PLANS:
            del self._plans[next(iter(self._plans))]

    def _give_back_late_plan(self, asked: "asyncio.Future[Json]") -> None:
        """Give back the permits of a plan that arrived too late."""
        if asked.cancelled() or asked.exception():
            return
        for candidate in asked.result()["candidates"]:
            self.give_back(candidate)

    def give_back(self, candidate: Json) -> None:
        """Give back the permit of a function that is not called, if the permit is exclusive."""
        if candidate["permit"] and (candidate["permit"].get("lease") or candidate["permit"].get("trial")):
            self.report(candidate, "unused")

    def report(self, candidate: Json, kind: str, **details: Any) -> None:
        permit = candidate["permit"]
        if permit is None:
            return
        self._ended.append({"target": candidate["target"], "kind": kind, **permit, **details})
        if kind != "ok" or permit.get("lease"):
            if kind != "started":
                self._plans.clear()  # the plans are outdated
            self.send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self.send)

    def send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended:
            ended, self._ended = self._ended, []
            sending = asyncio.ensure_future(self._client._call("report_call", ended, wait=PLAN_SECONDS))
            self._sending.add(sending)
            sending.add_done_callback(self._sent)

    def _sent(self, sending: "asyncio.Future[Any]") -> None:
        # It is not sent again: it may have arrived, and a failure must not count twice. A lease expires by itself.
        self._sending.discard(sending)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            log.warning("a report of functions is lost, it is not sent again: %s", error)

    async def settle(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=SETTLE_SECONDS)


def share(left: float, tiers: int, usual: float = 0.0) -> float:
    """Return the seconds that a tier may take of the `left` seconds that `tiers` tiers share, itself included.

    The last tier may take all of them, the last but one two thirds, another one half. A tier that usually needs
    longer (`usual` is how long its slowest recent answers took) may take half as long again as that, and three
    quarters of what is left at the most.
    """
    if tiers <= 1:
        return left
    return max(left / 2, 2 * left / (tiers + 1), min(1.5 * usual, 0.75 * left))


def _unguarded(names: Sequence[str], primary: str) -> Json:
    ordered = sorted(names, key=lambda name: name != primary)
    candidates = [{"name": name, "target": name, "permit": None} for name in ordered]
    return {"candidates": candidates, "skipped": [], "retry_in_seconds": None, "timeout_seconds": 30.0}


@dataclass(slots=True)
class _Failover:
    """One `call_with_failover` under way."""

    link: _Link
    functions: Mapping[str, Function]
    outcomes: Mapping[type[Exception], str]
    timeout: float
    attempt_timeout: float | None
    attempts: list[Json] = field(default_factory=list)
    made: int = 0

    async def run(self, primary: str, model: str | None) -> FailoverResult:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        plan = await self.link.plan(list(self.functions), primary, model)
        self.attempts += plan["skipped"]
        cause: Exception | None = None
        for number, planned in enumerate(plan["candidates"]):
            if (left := deadline - clock()) <= 0:
                self._pass_over(planned)
                continue
            may_take = self._share(left, len(plan["candidates"]) - number, plan)
            candidate = await self._permitted(planned, model) if planned.get("probe") else planned
            if candidate is None:
                continue
            try:
                value = await self._attempt(candidate, plan, may_take)
            except _Failed as failed:
                cause = failed.cause
                continue
            if self.made > 1:
                await self.link.settle()
            return FailoverResult(value, candidate["name"], self.attempts)
        await self.link.settle()
        raise self._no_answer(plan, late=clock() >= deadline) from cause

    async def _permitted(self, candidate: Json, model: str | None) -> Json | None:
        """Return a probe with its permit, which is fetched only now that its turn has come; None if refused."""
        alone = await self.link.plan([candidate["name"]], candidate["name"], model)
        for found in alone["candidates"]:
            return dict(found)
        self.attempts += alone["skipped"]
        return None

    def _pass_over(self, candidate: Json) -> None:
        """Skip a function for lack of time: even a call that is cancelled at once could have side effects."""
        provider, _, model = candidate["target"].partition("/")
        self.attempts.append({"provider": provider, "model": model, "outcome": "skipped: no time left"})
        self.link.give_back(candidate)

    def _share(self, left: float, tiers: int, plan: Json) -> float:
        """Return the seconds that the next of `tiers` functions may take of the `left` seconds.

        By default the first of three functions may take half of 60 s, and its own limit is 30 s. If it were cut off
        just before its own limit, a function that hangs would never count as a failure.
        """
        seconds, limit = share(left, tiers), self._limit(plan)
        return max(seconds, limit) if tiers > 1 and seconds >= NEARLY * limit else seconds

    def _limit(self, plan: Json) -> float:
        return float(self.attempt_timeout or plan["timeout_seconds"])

    async def _attempt(self, candidate: Json, plan: Json, may_take: float) -> Any:
        """Return the function's result. Raises _Failed if the next is to be called, else the function's exception."""
        loop = asyncio.get_running_loop()
        began, kind, error = loop.time(), "cancelled", None
        own_limit = self._limit(plan)
        self.made += 1
        renewal = asyncio.ensure_future(self._renew(candidate, plan))
        try:
            async with asyncio.timeout(min(may_take, own_limit)) as limit:
                value = await self.functions[candidate["name"]]()
            kind = "ok"
        except Exception as raised:
            error = raised
            kind = self._outcome_of(raised)
            if limit.expired():
                kind = "timeout" if own_limit <= may_take else "deadline"
            elif not OUTCOMES[kind]:
                raise
            raise _Failed(raised) from raised
        else:
            return value
        finally:
            renewal.cancel()
            self._note(candidate, kind, error, loop.time() - began)

    async def _renew(self, candidate: Json, plan: Json) -> None:
        """Renew the lease of a slow probe three times per lease."""
        if candidate["permit"] and candidate["permit"].get("lease"):
            for _ in range(RENEWALS):
                await asyncio.sleep(plan["lease_seconds"] / 3)
                self.link.report(candidate, "started")

    def _outcome_of(self, error: Exception) -> str:
        named = next((self.outcomes[known] for known in type(error).__mro__ if known in self.outcomes), None)
        return named or outcome_of(error)

    def _note(self, candidate: Json, kind: str, error: Exception | None, seconds: float) -> None:
        provider, _, model = candidate["target"].partition("/")
        status, ms = error and _status_of(error), seconds * 1000
        entry = {"provider": provider, "model": model, "outcome": kind, "status": status, "ms": round(ms, 1)}
        if error is not None:
            entry["message"] = f"{type(error).__name__}: {error}"[:200]
        self.attempts.append(entry)
        # Every operator reads the reports, so the text of an exception stays out of them.
        details = {} if error is None else {"message": type(error).__name__, "status": status}
        named = error and _retry_after(error)
        self.link.report(candidate, kind, ms=ms, first=self.made == 1, retry_after=named, **details)

    def _no_answer(self, plan: Json, *, late: bool) -> BreakwaterError:
        if late:
            message = "The deadline passed before any function answered."
            return DeadlineExceeded(message, 504, "deadline_exceeded", None, self.attempts)
        message = "All functions failed." if self.made else "No function can be called now."
        return NoAnswer(message, 503, "no_provider_available", None, self.attempts, plan["retry_in_seconds"] or 1.0)


class _Failed(Exception):
    """A function failed, and the next may succeed."""

    def __init__(self, cause: Exception):
        super().__init__(cause)
        self.cause = cause


# The same without a running event loop.


def _waiting(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["SyncClient", P], R]:
    @functools.wraps(method)
    def call(self: "SyncClient", /, *arguments: P.args, **named: P.kwargs) -> R:
        return self._wait(method(self._client, *arguments, **named))

    return call


def _iterating(
    method: Callable[Concatenate[Client, P], AsyncGenerator[R, None]],
) -> Callable[Concatenate["SyncClient", P], Iterator[R]]:
    @functools.wraps(method)
    def call(self: "SyncClient", /, *arguments: P.args, **named: P.kwargs) -> Iterator[R]:
        stream = method(self._client, *arguments, **named)
        try:
            while (item := self._wait(_next(stream))) is not None:
                yield item
        finally:
            self._wait(_closed(stream))

    return call


async def _next(stream: AsyncGenerator[R, None]) -> R | None:
    return await anext(stream, None)


async def _closed(stream: AsyncGenerator[Any, None]) -> None:
    for _ in range(100):
        try:
            return await stream.aclose()
        except RuntimeError:  # its last step is still being cancelled
            await asyncio.sleep(0.01)


class SyncClient:
    """A client's methods for code without an event loop. They run on a loop of their own, in a thread.

    Don't call them from an event loop: it would be blocked.
    """

    def __init__(self, client: Client):
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    chat = _waiting(Client.chat)
    stream_chat = _iterating(Client.stream_chat)
    embed = _waiting(Client.embed)
    respond = _waiting(Client.respond)
    stream_respond = _iterating(Client.stream_respond)
    message = _waiting(Client.message)
    stream_message = _iterating(Client.stream_message)
    call_http = _iterating(Client.call_http)
    call_http_whole = _waiting(Client.call_http_whole)
    generate_completion = _waiting(Client.generate_completion)
    generate_streaming_completion = _iterating(Client.generate_streaming_completion)
    call_with_failover = _waiting(Client.call_with_failover)
    get_request = _waiting(Client.get_request)
    get_usage_stats = _waiting(Client.get_usage_stats)
    get_system_health = _waiting(Client.get_system_health)
    get_health_summary = _waiting(Client.get_health_summary)
    get_all_provider_health = _waiting(Client.get_all_provider_health)
    get_provider_health = _waiting(Client.get_provider_health)
    force_provider_recovery = _waiting(Client.force_provider_recovery)
    reset_provider_stats = _waiting(Client.reset_provider_stats)
    isolate = _waiting(Client.isolate)
    restore = _waiting(Client.restore)

    def close(self) -> None:
        """Send the reports that are still waiting, and end the thread."""
        if self._loop is not None:
            self._wait(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            if self._thread is not None:
                self._thread.join()
            self._loop.close()
            self._loop = None

    def _wait(self, work: Coroutine[Any, Any, R]) -> R:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="breakwater", daemon=True)
                self._thread.start()
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise

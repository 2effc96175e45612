"""The HTTP door: OpenAI's routes and the operators', over one Door. No Ray.

Nothing is sent before the first content has come, so status and headers are true. Chat completions are
answered without a framework between: it would cost as much as all that we do for a whole answer.
"""

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import BreakwaterError, InternalError, NotFound, TooLarge, WrongRoute, error_object
from deployments.failover.deadline import Deadline
from deployments.failover.failover import Answer
from deployments.failover.request_fit import spoken
from deployments.failover.stream import StreamAnswer
from deployments.openai_api.chat import DONE, dump, parse_object, parse_request
from deployments.openai_api.chat import Request as Checked
from deployments.openai_api.embeddings import parse_embedding_request
from deployments.service.service import Door, drop_of
from deployments.status_page.routes import StatusRoutes
from deployments.telemetry.trace_context import told_in
from deployments.usage.caller import Caller, as_csv, question_of

log = logging.getLogger(f"ray.serve.{__name__}")

CHAT = "/v1/chat/completions"
MAX_BODY = 32 * 1024 * 1024
TIMEOUT_HEADER = "x-request-timeout-seconds"
DROP_HEADER = "x-breakwater-drop-unsupported"
EXPLAIN_HEADER = "x-breakwater-explain"
Endpoint = Callable[[Request], Awaitable[Response]]


def build_http_door(door: Door) -> ASGIApp:
    """The ASGI application of one ingress replica."""
    routes = _Routes(door)
    return HttpDoor(routes.chat, _framework(door, routes))


class HttpDoor:
    """Chat completions here, everything else by the framework."""

    def __init__(self, chat: Endpoint, others: ASGIApp):
        self._chat, self._others = chat, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _is_chat(scope):
            return await self._others(scope, receive, send)
        try:
            response = await self._chat(Request(scope, receive))
        except Exception as error:
            if not isinstance(error, (BreakwaterError, ClientDisconnect)):
                log.exception("a chat completion met a bug")
            response = _response_to(error)
        await response(scope, receive, send)


def _is_chat(scope: Scope) -> bool:
    """Behind a prefix too."""
    path: str = scope["path"]
    return path == CHAT or (path.endswith(CHAT) and path.removesuffix(CHAT) == scope.get("root_path", ""))


def _framework(door: Door, routes: "_Routes") -> Starlette:
    status = StatusRoutes(door)
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", CHAT, routes.chat),
        ("POST", "/v1/embeddings", routes.embeddings),
        ("GET", "/v1/models", routes.models),
        ("GET", "/v1/models/{name:path}", routes.model),
        ("GET", "/v1/health", routes.health),
        ("GET", "/v1/providers", routes.providers),
        ("GET", "/v1/providers/{name}", routes.provider),
        ("POST", "/v1/providers/{name}/{verb}", routes.command),
        ("GET", "/v1/requests/{name}", routes.request),
        ("GET", "/v1/usage", routes.usage),
        ("GET", "/v1/breaker", routes.thresholds),
        ("PATCH", "/v1/breaker", routes.thresholds),
        ("GET", "/", status.page),
        ("GET", "/v1/status", status.status),
        ("GET", "/v1/events", status.events),
        ("GET", "/livez", routes.livez),
        ("GET", "/readyz", routes.readyz),
    ]
    return Starlette(
        routes=[Route(path, endpoint, methods=[method]) for method, path, endpoint in table],
        exception_handlers={
            BreakwaterError: _on_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_error,
            Exception: _on_error,  # raised again after this: Serve logs it with its stack
        },
    )


class _Routes:
    def __init__(self, door: Door):
        self._door = door

    async def chat(self, request: Request) -> Response:
        deadline, caller = self._deadline(request), self._caller(request)
        checked = _wished(parse_request(await _body(request)), request)
        if checked.stream:
            answer = await self._door.failover.stream(checked, deadline, self._door.begin(caller, checked))
            return _EventStream(answer, self._headers(answer))
        done = await self._door.failover.complete(checked, deadline, self._door.begin(caller, checked))
        return self._whole(done)

    async def embeddings(self, request: Request) -> Response:
        deadline, caller = self._deadline(request), self._caller(request)
        checked = _wished(parse_embedding_request(await _body(request)), request)
        return self._whole(await self._door.embeddings(checked, deadline, caller))

    def _whole(self, done: Answer) -> Response:
        body = done.body
        if done.trail.explain:
            body = dump({**json.loads(body), "breakwater": self._door.served_by(done)})
        return Response(body, media_type="application/json", headers=self._headers(done))

    def _caller(self, request: Request) -> Caller:
        """Raises Unauthorized without a key where one is needed, Forbidden for a tenant that is not the key's."""
        headers = request.headers
        key, tenant = self._door.gate.key(headers.get("authorization")), headers.get("x-tenant-id") or None
        return Caller(
            "http",
            key.speaks_for(tenant) if key else tenant,
            headers.get("x-agent-id") or None,
            key.name if key else None,
            headers.get("x-request-id"),
            explain=headers.get(EXPLAIN_HEADER, "").lower() == "true",
            trace=None if self._door.traces is None else told_in(headers),
        )

    async def usage(self, request: Request) -> Response:
        """The admin key sees all, a key its tenant's or its own; where no keys are needed, everybody sees all."""
        filters, groups = question_of(request.query_params)
        authorization = request.headers.get("authorization")
        if not self._door.gate.is_admin(authorization) and (key := self._door.gate.key(authorization)) is not None:
            filters |= {"tenant": key.speaks_for(filters.get("tenant"))} if key.tenant else {"key": key.name}
        rows = await self._door.usage(filters, groups)
        if request.query_params.get("format") == "csv" or "text/csv" in request.headers.get("accept", ""):
            return Response(as_csv(rows), media_type="text/csv")
        return JSONResponse({"object": "list", "data": rows})

    async def request(self, request: Request) -> Response:
        """The admin key sees all, a key its tenant's or its own; where no keys are needed, everybody sees all."""
        authorization = request.headers.get("authorization")
        admin = self._door.gate.is_admin(authorization)
        key = None if admin else self._door.gate.key(authorization)
        name = request.path_params["name"]
        found = await self._door.request(name)
        if key is not None and (found["tenant"] != key.tenant if key.tenant else found["key"] != key.name):
            raise NotFound(f"The request '{name}' is not known.")  # nor is it told that somebody else's is
        return JSONResponse(found)

    def _deadline(self, request: Request) -> Deadline:
        text = request.headers.get(TIMEOUT_HEADER)
        deadline = self._door.deadline(text)
        if not deadline.explicit:
            return deadline
        # Serve reads the same header and would cut in with an untyped answer of its own: be first.
        return Deadline(deadline.at - min(0.02, 0.2 * deadline.total), deadline.total, explicit=True)

    def _headers(self, answer: Answer | StreamAnswer) -> dict[str, str]:
        by = self._door.served_by(answer)
        headers = {
            "x-breakwater-provider": by["provider"],
            "x-breakwater-model": by["model"],
            "x-breakwater-attempts": str(by["attempts"]),
            "x-breakwater-request-id": by["request_id"],
        }
        if by["degraded"]:
            headers["x-breakwater-degraded"] = "true"
        if answer.dropped:
            headers["x-breakwater-dropped"] = spoken(answer.dropped)
        return headers

    async def models(self, request: Request) -> Response:
        self._door.gate.key(request.headers.get("authorization"))
        return JSONResponse({"object": "list", "data": [_model(name) for name in self._door.models()]})

    async def model(self, request: Request) -> Response:
        self._door.gate.key(request.headers.get("authorization"))
        return JSONResponse(_model(self._door.model(request.path_params["name"])))

    async def health(self, request: Request) -> Response:
        self._door.gate.key(request.headers.get("authorization"))
        return JSONResponse(await self._door.system_health())

    async def providers(self, request: Request) -> Response:
        self._door.gate.key(request.headers.get("authorization"))
        return JSONResponse(await self._door.health_summary())

    async def provider(self, request: Request) -> Response:
        self._door.gate.key(request.headers.get("authorization"))
        return JSONResponse(await self._door.provider_health(request.path_params["name"]))

    async def command(self, request: Request) -> Response:
        self._door.gate.admit_admin(request.headers.get("authorization"))
        name, verb = request.path_params["name"], request.path_params["verb"]
        return JSONResponse(await self._door.command(verb, name, request.query_params.get("seconds")))

    async def thresholds(self, request: Request) -> Response:
        self._door.gate.admit_admin(request.headers.get("authorization"))
        changes = parse_object(await _body(request)) if request.method == "PATCH" else None
        return JSONResponse(await self._door.thresholds(changes))

    async def livez(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, _: Request) -> Response:
        ready = self._door.ready()
        return JSONResponse({"status": "ready" if ready else "no provider can be asked"}, 200 if ready else 503)


class _EventStream(Response):
    """A stream as it comes; who serves us cancels it when its client goes away.

    Closes the answer however the response ends, even if its first byte could not be sent.
    """

    media_type = "text/event-stream"

    def __init__(self, answer: StreamAnswer, headers: Mapping[str, str]):
        self.status_code, self.background = 200, None
        self.init_headers({**headers, "cache-control": "no-cache"})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self._answer.frames()) as frames:
                more = True
                async for data in frames:
                    more = not data.endswith(DONE)  # the last bytes and the body's end leave in one write
                    await send({"type": "http.response.body", "body": data, "more_body": more})
            if more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._answer.close()


def _wished(checked: Checked, request: Request) -> Checked:
    """With what the headers say of the fields that a tier can't heed."""
    word = request.headers.get(DROP_HEADER)
    return checked if word is None else replace(checked, drop=drop_of(word))


async def _body(request: Request) -> bytes:
    """The request's body; no more of it is read than may be."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise TooLarge(f"The request body is larger than {MAX_BODY} bytes.")
        parts.append(part)
    return b"".join(parts)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "breakwater"}


def _error_response(error: BreakwaterError) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(attempts := getattr(error, "attempts", None), list):
        made = [a for a in attempts if not a["outcome"].startswith("skipped")]
        headers["x-breakwater-attempts"] = str(len(made))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_object(error), status_code=error.status, headers=headers)


async def _on_error(_: Request, error: Exception) -> Response:
    return _response_to(error)


def _response_to(error: Exception) -> Response:
    match error:
        case BreakwaterError():
            return _error_response(error)
        case ClientDisconnect():
            return Response(status_code=499)
    return _error_response(InternalError("Something went wrong here, not in your request."))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error_response(WrongRoute(request.method, request.url.path, error.status_code))

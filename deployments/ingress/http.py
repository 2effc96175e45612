"""The HTTP API: the table of routes, and the headers and bodies of answers, over one Service. No Ray.

A request is checked in this order: first its caller, in one place, by the access column of the route table; then its
headers; then its body.

Nothing is sent before the first content is there, so status and headers are true. Chat completions bypass the
framework: it would cost as much as all our own work for a whole answer.
"""

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.ledger.messages import Viewer
from actors.ledger.rollup import columns_of
from actors.ledger.rows import LONGEST_TEXT
from deployments.errors import BreakwaterError, InternalError, WrongRoute, error_object
from deployments.failover.calls import Answer
from deployments.failover.deadline import Deadline
from deployments.failover.stream import StreamAnswer
from deployments.ingress import openapi
from deployments.ingress.bodies import Bodies
from deployments.ingress.cors import with_cors
from deployments.ingress.encodings import ENCODINGS
from deployments.ingress.in_flight import Held
from deployments.ingress.paths import tidy
from deployments.openai_api.chat import DONE, check_chat, dump
from deployments.openai_api.chat import Request as Checked
from deployments.openai_api.embeddings import check_embedding_request
from deployments.routing.request_fit import dropped_header
from deployments.service.arguments import parse_drop
from deployments.service.auth import Access, Authenticator, Identity
from deployments.status_page.routes import StatusRoutes
from deployments.telemetry.trace_context import extract
from deployments.usage.caller import Caller, as_csv, question_of

if TYPE_CHECKING:
    from deployments.service.service import Service

log = logging.getLogger(f"ray.serve.{__name__}")

CHAT = "/v1/chat/completions"
TIMEOUT_HEADER = "x-request-timeout-seconds"
DROP_HEADER = "x-breakwater-drop-unsupported"
EXPLAIN_HEADER = "x-breakwater-explain"
Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Identity], Awaitable[Response]]


def build_http_api(service: "Service") -> ASGIApp:
    """Return the ASGI application of one ingress replica."""
    endpoints = {
        (method, path): _guarded(service.authenticator, access, handler)
        for method, path, access, handler in route_table(service)
    }
    return with_cors(HttpApi(endpoints["POST", CHAT], _framework(endpoints)), service.resolved.config.cors)


def route_table(service: "Service") -> list[tuple[str, str, Access, Handler]]:
    """Return every route, each with who may call it. No other route is served."""
    handlers, status = _Handlers(service), StatusRoutes(service)
    key, admin, either = Access.KEY, Access.ADMIN, Access.KEY_OR_ADMIN
    return [
        ("POST", CHAT, key, handlers.chat),
        ("POST", "/v1/embeddings", key, handlers.embeddings),
        ("GET", "/v1/models", key, handlers.models),
        ("GET", "/v1/models/{name:path}", key, handlers.model),
        ("GET", "/v1/health", key, handlers.health),
        ("GET", "/v1/providers", key, handlers.providers),
        ("GET", "/v1/providers/{name}", key, handlers.provider),
        ("POST", "/v1/providers/{name}/{verb}", admin, handlers.command),
        ("GET", "/v1/requests/{name}", either, handlers.request),
        ("GET", "/v1/usage", either, handlers.usage),
        ("GET", "/v1/breaker", admin, handlers.thresholds),
        ("PATCH", "/v1/breaker", admin, handlers.thresholds),
        ("GET", "/", Access.ANYONE, status.page),
        ("GET", "/v1/status", either, status.status),
        ("GET", "/v1/events", either, status.events),
        ("GET", openapi.PATH, Access.ANYONE, openapi.Description().describe),
        ("GET", "/livez", Access.ANYONE, handlers.livez),
        ("GET", "/readyz", Access.ANYONE, handlers.readyz),
    ]


def _guarded(authenticator: Authenticator, access: Access, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await handler(request, authenticator.admit(access, request.headers.get("authorization")))

    return endpoint


class HttpApi:
    """Answers chat completions itself, and passes all other requests to the framework."""

    def __init__(self, chat: Endpoint, others: ASGIApp):
        self._chat, self._others = chat, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _is_chat(scope):
            if scope["type"] == "http" and (tidied := tidy(scope)) is not scope:
                return await self(tidied, receive, send)
            return await self._others(scope, receive, send)
        try:
            response = await self._chat(Request(scope, receive))
        except Exception as error:
            if not isinstance(error, (BreakwaterError, ClientDisconnect)):
                log.exception("A chat completion failed by a bug of Breakwater; its client gets a 500")
            response = _response_to(error)
        await response(scope, receive, send)


def _is_chat(scope: Scope) -> bool:
    """Return whether the path is that of chat completions, behind Serve's prefix too."""
    path: str = scope["path"]
    return path == CHAT or (path.endswith(CHAT) and path.removesuffix(CHAT) == scope.get("root_path", ""))


def _framework(endpoints: Mapping[tuple[str, str], Endpoint]) -> Starlette:
    return Starlette(
        routes=[Route(path, endpoint, methods=[method]) for (method, path), endpoint in endpoints.items()],
        exception_handlers={
            BreakwaterError: _on_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_error,
            Exception: _on_error,  # Starlette raises it again after the response, and Serve logs it with its stack
        },
    )


class _Handlers:
    def __init__(self, service: "Service"):
        self._service, self._bodies = service, Bodies()

    async def chat(self, request: Request, identity: Identity) -> Response:
        caller, deadline = self._caller(request, identity), self._deadline(request)
        body, held = await self._bodies.read_object(request)
        response = None
        try:
            checked = _with_drop(check_chat(body), request)
            if checked.stream:
                answer = await self._service.stream(checked, deadline, caller)
                response = _EventStream(answer, self._headers(answer), held)
                return response
            return self._whole(await self._service.complete(checked, deadline, caller))
        finally:
            if response is None:
                held.release()

    async def embeddings(self, request: Request, identity: Identity) -> Response:
        caller, deadline = self._caller(request, identity), self._deadline(request)
        body, held = await self._bodies.read_object(request)
        try:
            checked = _with_drop(check_embedding_request(body), request)
            return self._whole(await self._service.embeddings(checked, deadline, caller))
        finally:
            held.release()

    def _whole(self, answer: Answer) -> Response:
        body = answer.body
        if answer.record.explain:
            body = dump({**json.loads(body), "breakwater": self._service.served_by(answer)})
        return Response(body, media_type="application/json", headers=self._headers(answer))

    def _caller(self, request: Request, identity: Identity) -> Caller:
        """Return the caller, with the tenant who pays. Raises Forbidden if the key is bound to another tenant."""
        headers, key = request.headers, identity.key
        tenant = headers.get("x-tenant-id") or None
        return Caller(
            "http",
            key.speaks_for(tenant) if key else tenant,
            headers.get("x-agent-id") or None,
            key.name if key else None,
            headers.get("x-request-id", "")[:LONGEST_TEXT] or None,
            explain=headers.get(EXPLAIN_HEADER, "").lower() == "true",
            trace=None if self._service.traces is None else extract(headers),
        )

    async def usage(self, request: Request, identity: Identity) -> Response:
        """Answer a usage query.

        The admin key sees all usage, any other key that of its tenant or its own. Without keys, everybody sees all.
        """
        filters, groups = question_of(request.query_params)
        if (key := identity.key) is not None:
            filters |= {"tenant": key.speaks_for(filters.get("tenant"))} if key.tenant else {"key": key.name}
        rows = await self._service.queries.usage(filters, groups)
        if request.query_params.get("format") == "csv" or "text/csv" in request.headers.get("accept", ""):
            return Response(as_csv(rows, columns_of(filters, groups)), media_type="text/csv")
        return JSONResponse({"object": "list", "data": rows})

    async def request(self, request: Request, identity: Identity) -> Response:
        """Answer with the explanation of one request. Who sees it is decided as in `usage`."""
        key = identity.key
        viewer: Viewer | None = None if key is None else {"tenant": key.tenant or None, "key": key.name}
        return JSONResponse(await self._service.queries.request(request.path_params["name"], viewer))

    def _deadline(self, request: Request) -> Deadline:
        text = request.headers.get(TIMEOUT_HEADER)
        deadline = self._service.deadline(text)
        if not deadline.explicit:
            return deadline
        # Serve reads the same header, and would answer with an untyped error of its own: end before it does.
        return Deadline(deadline.at - min(0.05, 0.2 * deadline.total), deadline.total, explicit=True)

    def _headers(self, answer: Answer | StreamAnswer) -> dict[str, str]:
        """Return the headers of an answer. New headers belong here."""
        served = self._service.served_by(answer)
        headers = {
            "x-breakwater-provider": served["provider"],
            "x-breakwater-model": served["model"],
            "x-breakwater-attempts": str(served["attempts"]),
            "x-breakwater-request-id": served["request_id"],
        }
        if served["degraded"]:
            headers["x-breakwater-degraded"] = "true"
        if answer.dropped:
            headers["x-breakwater-dropped"] = dropped_header(answer.dropped)
        return headers

    async def models(self, _: Request, __: Identity) -> Response:
        return JSONResponse({"object": "list", "data": [_model(name) for name in self._service.models()]})

    async def model(self, request: Request, _: Identity) -> Response:
        return JSONResponse(_model(self._service.model(request.path_params["name"])))

    async def health(self, _: Request, __: Identity) -> Response:
        return JSONResponse(await self._service.operations.system_health())

    async def providers(self, _: Request, __: Identity) -> Response:
        return JSONResponse(await self._service.operations.health_summary())

    async def provider(self, request: Request, _: Identity) -> Response:
        return JSONResponse(await self._service.operations.provider_health(request.path_params["name"]))

    async def command(self, request: Request, _: Identity) -> Response:
        name, verb = request.path_params["name"], request.path_params["verb"]
        seconds = request.query_params.get("seconds")
        return JSONResponse(await self._service.operations.command(verb, name, seconds))

    async def thresholds(self, request: Request, _: Identity) -> Response:
        if request.method != "PATCH":
            return JSONResponse(await self._service.operations.thresholds())
        changes, held = await self._bodies.read_object(request)
        held.release()
        return JSONResponse(await self._service.operations.thresholds(changes))

    async def livez(self, _: Request, __: Identity) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, _: Request, __: Identity) -> Response:
        ready = self._service.operations.ready()
        return JSONResponse({"status": "ready" if ready else "no provider can be asked"}, 200 if ready else 503)


class _EventStream(Response):
    """Sends a stream's frames as they come. The server cancels the response when its client goes away.

    The answer is closed however the response ends, even if its first byte could not be sent.
    """

    media_type = "text/event-stream"

    def __init__(self, answer: StreamAnswer, headers: Mapping[str, str], held: Held):
        self.status_code, self.background = 200, None
        self.init_headers({**headers, "cache-control": "no-cache"})
        self._answer, self._held = answer, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self._answer.frames()) as frames:
                more = True
                async for data in frames:
                    more = not data.endswith(DONE)  # the last bytes and the end of the body go in one write
                    await send({"type": "http.response.body", "body": data, "more_body": more})
            if more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._held.release()
            await self._answer.close()


def _with_drop(checked: Checked, request: Request) -> Checked:
    """Return the request with the header's choice of which unsupported fields may be dropped."""
    word = request.headers.get(DROP_HEADER)
    return checked if word is None else replace(checked, drop=parse_drop(word))


class _Model(TypedDict):
    """A model in OpenAI's list of models."""

    id: str
    object: str
    created: int
    owned_by: str


def _model(name: str) -> _Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "breakwater"}


def _error_response(error: BreakwaterError) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(attempts := getattr(error, "attempts", None), list):
        asked = [a for a in attempts if not a["outcome"].startswith("skipped")]
        headers["x-breakwater-attempts"] = str(len(asked))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status == 415:
        headers["accept-encoding"] = ENCODINGS
    return JSONResponse(error_object(error), status_code=error.status, headers=headers)


async def _on_error(_: Request, error: Exception) -> Response:
    return _response_to(error)


def _response_to(error: Exception) -> Response:
    match error:
        case BreakwaterError():
            return _error_response(error)
        case ClientDisconnect():
            return Response(status_code=499)
    return _error_response(InternalError("Breakwater failed by a bug of its own. Its log has the details."))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error_response(WrongRoute(request.method, request.url.path, error.status_code))

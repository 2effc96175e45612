"""The HTTP API of one ingress replica as an ASGI application: the table of routes, each behind the gate. No Ray.

Chat completions bypass the framework: it would cost as much as all our own work for a whole answer.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Mounted
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import BreakwaterError, WrongRoute
from deployments.ingress import openapi
from deployments.ingress.body.bodies import MAX_BODY, SMALL_BODY
from deployments.ingress.body.unread_bodies import UnreadBodies
from deployments.ingress.gate.cors import with_cors
from deployments.ingress.gate.gate import Endpoint, Gate
from deployments.ingress.gate.routes import Route
from deployments.ingress.handlers import Handlers
from deployments.ingress.paths import tidy
from deployments.ingress.responses import error_response, response_to
from deployments.ingress.wrong_routes import LONGEST_PATH, allowed_methods, hint_at
from deployments.service.auth import Access
from deployments.status_page.routes import StatusRoutes

if TYPE_CHECKING:
    from deployments.service.service import Service

CHAT = "/v1/chat/completions"
JSON = "application/json"
log = logging.getLogger(f"ray.serve.{__name__}")


def build_http_api(service: "Service") -> ASGIApp:
    """Return the ASGI application of one ingress replica."""
    config, gate = service.resolved.config, Gate(service)
    endpoints = {(route.method, route.path): gate.guard(route) for route in route_table(service)}
    return UnreadBodies(with_cors(HttpApi(endpoints["POST", CHAT], _framework(endpoints)), config.cors))


def route_table(service: "Service") -> list[Route]:
    """Return every route. No other is served."""
    handlers, status = Handlers(service), StatusRoutes(service)
    anyone, key, admin, either = Access.ANYONE, Access.KEY, Access.ADMIN, Access.KEY_OR_ADMIN
    return [
        Route("POST", CHAT, key, "chat", MAX_BODY, JSON, handlers.chat),
        Route("POST", "/v1/embeddings", key, "chat", MAX_BODY, JSON, handlers.embeddings),
        Route("GET", "/v1/models", key, None, 0, None, handlers.models),
        Route("GET", "/v1/models/{name:path}", key, None, 0, None, handlers.model),
        Route("GET", "/v1/health", key, None, 0, None, handlers.health),
        Route("GET", "/v1/providers", key, None, 0, None, handlers.providers),
        Route("GET", "/v1/providers/{name}", key, None, 0, None, handlers.provider),
        Route("POST", "/v1/providers/{name}/{verb}", admin, None, 0, None, handlers.command),
        Route("GET", "/v1/requests/{name}", either, "rows", 0, None, handlers.request),
        Route("GET", "/v1/usage", either, "usage", 0, None, handlers.usage),
        Route("GET", "/v1/breaker", admin, None, 0, None, handlers.thresholds),
        Route("PATCH", "/v1/breaker", admin, None, SMALL_BODY, JSON, handlers.thresholds),
        Route("GET", "/", anyone, None, 0, None, status.page),
        Route("GET", "/v1/status", either, None, 0, None, status.status),
        Route("GET", "/v1/events", either, None, 0, None, status.events),
        Route("GET", openapi.PATH, anyone, None, 0, None, openapi.Description().describe),
        Route("GET", "/livez", anyone, None, 0, None, handlers.livez),
        Route("GET", "/readyz", anyone, None, 0, None, handlers.readyz),
    ]


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
            response = response_to(error)
        await response(scope, receive, send)


def _is_chat(scope: Scope) -> bool:
    """Return whether the path is that of chat completions, behind Serve's prefix too."""
    path: str = scope["path"]
    return path == CHAT or (path.endswith(CHAT) and path.removesuffix(CHAT) == scope.get("root_path", ""))


def _framework(endpoints: Mapping[tuple[str, str], Endpoint]) -> Starlette:
    return Starlette(
        routes=[Mounted(path, endpoint, methods=[method]) for (method, path), endpoint in endpoints.items()],
        exception_handlers={
            BreakwaterError: _on_error,
            HTTPException: _on_wrong_route,
            ClientDisconnect: _on_error,
            Exception: _on_error,  # Starlette raises it again after the response, and Serve logs it with its stack
        },
    )


async def _on_error(_: Request, error: Exception) -> Response:
    return response_to(error)


async def _on_wrong_route(request: Request, _: Exception) -> Response:
    """Answer what Starlette raises for a path or a method that is not there; it raises nothing else."""
    routes, path = request.app.routes, request.scope["path"]
    allowed = allowed_methods(routes, request.scope)
    hint = "" if allowed else hint_at(path[:LONGEST_PATH], routes)
    return error_response(WrongRoute(request.method, path[:LONGEST_PATH], allowed, hint))

"""The HTTP API of one ingress replica as an ASGI application: the table of routes, each behind the gate. No Ray.

What is asked most bypasses the framework: it would cost as much as all our own work for a whole answer.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Mounted
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.console.routes import ConsoleRoutes
from deployments.doors.door import Door
from deployments.doors.messages.door import MESSAGES
from deployments.doors.responses.door import RESPONSES
from deployments.errors import BreakwaterError, NotFound, WrongRoute
from deployments.ingress import openapi
from deployments.ingress.account_handlers import AccountHandlers
from deployments.ingress.asking import Asking
from deployments.ingress.body.bodies import MAX_BODY, SMALL_BODY, Bodies
from deployments.ingress.body.unread_bodies import UnreadBodies
from deployments.ingress.door_handlers import DoorHandlers
from deployments.ingress.gate.cors import with_cors
from deployments.ingress.gate.gate import Endpoint, Gate
from deployments.ingress.gate.routes import Route
from deployments.ingress.handlers import Handlers
from deployments.ingress.paths import tidy
from deployments.ingress.reading import Reading
from deployments.ingress.responses import is_anthropics, response_to
from deployments.ingress.wrong_routes import LONGEST_PATH, allowed_methods, hint_at
from deployments.service.auth import Access, Identity

if TYPE_CHECKING:
    from deployments.service.service import Service

CHAT = "/v1/chat/completions"
RESPONSES_PATH, MESSAGES_PATH = "/v1/responses", "/v1/messages"
FOR_BROWSERS = frozenset({"/", "/v1/events"})
DIRECT = (CHAT, RESPONSES_PATH, MESSAGES_PATH)  # what clients ask most
JSON = "application/json"
log = logging.getLogger(f"ray.serve.{__name__}")


def build_http_api(service: "Service") -> ASGIApp:
    """Return the ASGI application of one ingress replica."""
    return build_server(service)[0]


def build_server(service: "Service") -> tuple[ASGIApp, Mapping[str, Endpoint]]:
    """Return the same, and what of it may be asked past Serve, by path. That answers its errors itself."""
    api = _api(route_table(service), Gate(service))
    return UnreadBodies(with_cors(api, service.resolved.config.cors)), api.direct


def build_api_by_handle(service: "Service") -> ASGIApp:
    """Return the same for who calls it by Python handle, without the routes of operators and what is for browsers."""
    table = route_table(service, by_handle=True)
    operators = (Access.ADMIN, Access.OPERATOR)
    routes = [route for route in table if route.access not in operators and route.path not in FOR_BROWSERS]
    return _api(routes, Gate(service, by_handle=True))


def _api(routes: Sequence[Route], gate: Gate) -> "HttpApi":
    endpoints = {(route.method, route.path): gate.guard(route) for route in routes}
    return HttpApi({path: endpoints["POST", path] for path in DIRECT}, _framework(endpoints))


def route_table(service: "Service", *, by_handle: bool = False) -> list[Route]:
    """Return every route. No other is served."""
    asking, bodies, console = Asking(service, by_handle=by_handle), Bodies(), ConsoleRoutes(service)
    handlers, accounts = Handlers(service, asking, bodies), AccountHandlers(service.queries)
    responses, messages = (DoorHandlers(service, asking, bodies, door) for door in (RESPONSES, MESSAGES))
    reading = Reading(service, asking, bodies, _door_of)
    chat, embeddings = reading.handler("http", handlers.chat), reading.handler("http", handlers.embeddings)
    respond = reading.handler(RESPONSES.name, responses.ask, RESPONSES)
    message = reading.handler(MESSAGES.name, messages.ask, MESSAGES)
    anyone, key, admin, either = Access.ANYONE, Access.KEY, Access.ADMIN, Access.KEY_OR_ADMIN
    operator = Access.OPERATOR
    return [
        Route("POST", CHAT, key, "chat", MAX_BODY, JSON, chat),
        Route("POST", "/v1/embeddings", key, "chat", MAX_BODY, JSON, embeddings),
        Route("POST", RESPONSES_PATH, key, "chat", MAX_BODY, JSON, respond),
        Route("POST", "/v1/responses/input_tokens", key, "chat", MAX_BODY, JSON, responses.count),
        Route("GET", "/v1/responses/{name:path}", key, None, 0, None, not_stored),
        Route("POST", "/v1/responses/{name:path}", key, None, 0, None, not_stored),
        Route("DELETE", "/v1/responses/{name:path}", key, None, 0, None, not_stored),
        Route("POST", MESSAGES_PATH, key, "chat", MAX_BODY, JSON, message),
        Route("POST", "/v1/messages/count_tokens", key, "chat", MAX_BODY, JSON, messages.count),
        Route("GET", "/v1/models", key, None, 0, None, handlers.models),
        Route("GET", "/v1/models/{name:path}", key, None, 0, None, handlers.model),
        Route("GET", "/v1/health", key, None, 0, None, handlers.health),
        Route("GET", "/v1/providers", key, None, 0, None, handlers.providers),
        Route("GET", "/v1/providers/{name}", key, None, 0, None, handlers.provider),
        Route("POST", "/v1/providers/{name}/{verb}", admin, None, 0, None, handlers.command),
        Route("GET", "/v1/requests/{name:path}", either, "rows", 0, None, accounts.request),
        Route("GET", "/v1/requests", either, "rows", 0, None, accounts.requests),
        Route("GET", "/v1/usage", either, "usage", 0, None, accounts.usage),
        Route("GET", "/v1/limits", either, "usage", 0, None, accounts.limits),
        Route("GET", "/v1/traffic", operator, None, 0, None, accounts.traffic),
        Route("GET", "/v1/breaker", admin, None, 0, None, handlers.thresholds),
        Route("PATCH", "/v1/breaker", admin, None, SMALL_BODY, JSON, handlers.thresholds),
        Route("GET", "/", anyone, None, 0, None, console.page),
        Route("GET", "/v1/status", either, None, 0, None, console.status),
        Route("GET", "/v1/events", either, None, 0, None, console.events),
        Route("GET", "/v1/setup", operator, None, 0, None, console.setup),
        Route("GET", "/v1/alerts", operator, None, 0, None, console.alerts),
        Route("GET", openapi.PATH, anyone, None, 0, None, openapi.Description().describe),
        Route("GET", "/livez", anyone, None, 0, None, handlers.livez),
        Route("GET", "/readyz", anyone, None, 0, None, handlers.readyz),
    ]


class HttpApi:
    """Answers what is asked most itself, by its path, and passes all other requests to the framework."""

    def __init__(self, direct: Mapping[str, Endpoint], others: ASGIApp):
        self.direct = {path: _answering(endpoint) for path, endpoint in direct.items()}
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (endpoint := self._endpoint(scope)) is None:
            if scope["type"] == "http" and (tidied := tidy(scope)) is not scope:
                return await self(tidied, receive, send)
            return await self._others(scope, receive, send)
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        """Return what answers at the path, behind Serve's prefix too."""
        path: str = scope["path"]
        if (endpoint := self.direct.get(path)) is None and (root := scope.get("root_path", "")):
            return self.direct.get(path.removeprefix(root))
        return endpoint


def _answering(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its errors as answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            if not isinstance(error, (BreakwaterError, ClientDisconnect)):
                log.exception("A request failed by a bug of Breakwater; its client gets a 500")
            return response_to(error, _door_of(request.scope))

    return answer


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


def _door_of(scope: Scope) -> Door | None:
    """Return the door by whose words a client of this request reads errors; None for OpenAI's own."""
    return MESSAGES if is_anthropics(scope) else None


async def _on_error(request: Request, error: Exception) -> Response:
    return response_to(error, _door_of(request.scope))


async def _on_wrong_route(request: Request, _: Exception) -> Response:
    """Answer what Starlette raises for a path or a method that is not there; it raises nothing else."""
    routes, path = request.app.routes, request.scope["path"]
    allowed = allowed_methods(routes, request.scope)
    hint = "" if allowed else hint_at(path[:LONGEST_PATH], routes)
    return response_to(WrongRoute(request.method, path[:LONGEST_PATH], allowed, hint), _door_of(request.scope))


async def not_stored(request: Request, _: Identity) -> Response:
    """Refuse what asks for a stored response: there are none."""
    raise NotFound("Responses are not stored here: send the whole conversation with each request.")

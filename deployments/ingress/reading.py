"""From a route to its handler: reads the body, and has a request that was sent twice share one answer. No Ray."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope, Send

from deployments.doors.door import Door
from deployments.errors import BreakwaterError, NoAnswer
from deployments.idempotency.sharing import Repeatable
from deployments.idempotency.wish import Wish
from deployments.ingress.asking import DROP_HEADER, Asked, Asking
from deployments.ingress.body.bodies import Bodies
from deployments.ingress.gate.routes import Handler
from deployments.ingress.responses import broken_frame, is_whole, response_to
from deployments.ingress.server.headers import first_headers
from deployments.service.auth import Identity

if TYPE_CHECKING:
    from deployments.service.service import Service

BETA_HEADER = "anthropic-beta"
log = logging.getLogger(f"ray.serve.{__name__}")


Answering = Callable[[Asked], Awaitable[Response]]


class Reading:
    """`door_of` returns the door in whose words a client that speaks no door of its own reads errors."""

    def __init__(self, service: "Service", asking: Asking, bodies: Bodies, door_of: Callable[[Scope], Door | None]):
        self._service, self._asking, self._bodies, self._door_of = service, asking, bodies, door_of

    def handler(self, name: str, answer: Answering, door: Door | None = None) -> Handler:
        """Return the handler of a route whose answers are paid for. `name` is its API's, in accounts too."""

        async def handle(request: Request, identity: Identity) -> Response:
            began = asyncio.get_running_loop().time()
            caller, deadline = self._asking.caller(request, identity, name), self._asking.deadline(request, began)
            wish = self._service.sharing.wish_in(first_headers(request.scope), deadline.total)
            body, held = await self._bodies.read_object(request)
            if wish is not None and wish.patience is not None and body.get("stream") is not True:
                deadline = deadline.with_patience(began, wish.patience)
            asked = Asked(request, caller, deadline, body, held)
            if wish is not None:
                return await self._share(asked, wish, answer, door)
            with held:
                return await answer(asked)

        return handle

    async def _share(self, asked: Asked, wish: Wish, answer: Answering, door: Door | None) -> Response:
        request, caller, began = asked.request, asked.caller, False
        door = door or self._door_of(request.scope)

        async def run(send: Send) -> bool:
            nonlocal began
            began = True
            try:
                with asked.held:
                    response = await answer(asked)
            except Exception as error:
                if not isinstance(error, (BreakwaterError, ClientDisconnect)):
                    log.exception("A request failed by a bug of Breakwater; its client gets a 500")
                response = response_to(error, door)
            await response(request.scope, request.receive, send)
            return is_whole(response)

        def broken() -> bytes:
            error = NoAnswer("The replica that gave this answer is gone: ask for it again.")
            error.code = "stream_interrupted"
            return broken_frame(error, door)

        named = {name: request.headers.get(name) for name in (DROP_HEADER, BETA_HEADER)}
        others = {**named, "explain": caller.explain, "scope": caller.scope}
        owner = (caller.key_name, caller.tenant, request.scope["path"])
        repeatable = Repeatable(wish, owner, asked.body, others, asked.deadline.at, run, broken)
        try:
            return await self._service.sharing.answer(repeatable)
        finally:
            if not began:  # it has joined another one: nobody reads this body any more
                asked.held.release()

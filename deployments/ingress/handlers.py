"""The handlers of the HTTP API's routes: each takes a request that was let in, and its caller, and answers. No Ray.

Nothing is sent before the first content is there, so status and headers are true.
"""

import json
from typing import TYPE_CHECKING, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from deployments.failover.calls import Answer
from deployments.ingress.asking import Asked
from deployments.ingress.body.bodies import SMALL_BODY, Bodies
from deployments.ingress.responses import EventStream, Json, WholeAnswer, is_anthropics
from deployments.keys.key import LONGEST_NAME
from deployments.openai_api.chat import check_chat, dump
from deployments.openai_api.embeddings import check_embedding_request
from deployments.service.auth import Identity

if TYPE_CHECKING:
    from deployments.ingress.asking import Asking
    from deployments.service.service import Service

OPERATOR_HEADER = "x-breakwater-operator"


class Handlers:
    def __init__(self, service: "Service", asking: "Asking", bodies: Bodies):
        self._service, self._asking, self._bodies = service, asking, bodies

    async def chat(self, asked: Asked) -> Response:
        checked = self._asking.with_drop(check_chat(asked.body, asked.held.size), asked.request)
        if checked.stream:
            answer = await self._service.stream(checked, asked.deadline, asked.caller)
            return EventStream(answer, self._asking.headers(answer), asked.held.keep())
        return self._whole(await self._service.complete(checked, asked.deadline, asked.caller))

    async def embeddings(self, asked: Asked) -> Response:
        checked = self._asking.with_drop(check_embedding_request(asked.body, asked.held.size), asked.request)
        return self._whole(await self._service.embeddings(checked, asked.deadline, asked.caller))

    def _whole(self, answer: Answer) -> Response:
        body = answer.body
        if answer.record.explain:
            body = dump({**json.loads(body), "breakwater": self._service.served_by(answer)})
        return WholeAnswer(body, self._asking.headers(answer))

    async def models(self, request: Request, _: Identity) -> Response:
        names = self._service.model_names()
        if is_anthropics(request.scope):
            ends = {"first_id": names[0], "last_id": names[-1], "has_more": False}
            return Json({"data": [_anthropics_model(name) for name in names], **ends})
        return Json({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request, _: Identity) -> Response:
        name = self._service.model(request.path_params["name"])
        return Json(_anthropics_model(name) if is_anthropics(request.scope) else _model(name))

    async def health(self, _: Request, __: Identity) -> Response:
        return Json(await self._service.operations.system_health())

    async def providers(self, _: Request, __: Identity) -> Response:
        return Json(await self._service.operations.health_summary())

    async def provider(self, request: Request, _: Identity) -> Response:
        return Json(await self._service.operations.provider_health(request.path_params["name"]))

    async def command(self, request: Request, _: Identity) -> Response:
        name, verb = request.path_params["name"], request.path_params["verb"]
        seconds = request.query_params.get("seconds")
        return Json(await self._service.operations.command(verb, name, seconds, operator_of(request)))

    async def thresholds(self, request: Request, _: Identity) -> Response:
        if request.method != "PATCH":
            return Json(await self._service.operations.thresholds())
        changes, held = await self._bodies.read_object(request, SMALL_BODY)
        with held:
            return Json(await self._service.operations.thresholds(changes, operator_of(request)))

    async def livez(self, _: Request, __: Identity) -> Response:
        return Json({"status": "alive"})

    async def readyz(self, _: Request, __: Identity) -> Response:
        ready = self._service.operations.ready()
        return Json({"status": "ready" if ready else "no provider can be asked"}, 200 if ready else 503)


def operator_of(request: Request) -> str:
    """Return who commands, as the operator says: all have the one admin key."""
    given = request.headers.get(OPERATOR_HEADER, "").encode("latin-1").decode(errors="replace")  # UTF-8
    name = "".join(filter(str.isprintable, given))[:LONGEST_NAME].strip()
    return name or "the admin key"


class _Model(TypedDict):
    """A model in OpenAI's list of models."""

    id: str
    object: str
    created: int
    owned_by: str


class _AnthropicsModel(TypedDict):
    """A model in Anthropic's list of models."""

    id: str
    type: str
    display_name: str
    created_at: str
    lifecycle: str


def _anthropics_model(name: str) -> _AnthropicsModel:
    made = "1970-01-01T00:00:00Z"  # what Anthropic says where it does not know
    return {"id": name, "type": "model", "display_name": name, "created_at": made, "lifecycle": "active"}


def _model(name: str) -> _Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "breakwater"}

"""The handlers of the HTTP API's routes: each takes a request that was let in, and its caller, and answers. No Ray.

Nothing is sent before the first content is there, so status and headers are true.
"""

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from actors.ledger.messages import Viewer
from actors.ledger.rollup import columns_of
from actors.ledger.rows import LONGEST_TEXT
from deployments.config.silence import longest_silence
from deployments.errors import BadRequest
from deployments.failover.calls import Answer
from deployments.failover.deadline import Deadline
from deployments.failover.stream import StreamAnswer
from deployments.ingress.bodies import SMALL_BODY, Bodies
from deployments.ingress.gate.utf8_headers import HIDDEN, TIMEOUT_HEADER
from deployments.ingress.responses import NOSNIFF, EventStream, Json
from deployments.openai_api.chat import Request as Checked
from deployments.openai_api.chat import check_chat, dump
from deployments.openai_api.embeddings import check_embedding_request
from deployments.routing.request_fit import dropped_header
from deployments.service.arguments import parse_drop
from deployments.service.auth import Identity
from deployments.telemetry.trace_context import extract
from deployments.usage.caller import Caller, as_csv, question_of

if TYPE_CHECKING:
    from deployments.service.service import Service

DROP_HEADER = "x-breakwater-drop-unsupported"
EXPLAIN_HEADER = "x-breakwater-explain"


class Handlers:
    def __init__(self, service: "Service"):
        self._service, self._bodies = service, Bodies()
        self._longest_silence = longest_silence(os.environ)

    async def chat(self, request: Request, identity: Identity) -> Response:
        caller, deadline = self._caller(request, identity), self._deadline(request)
        body, held = await self._bodies.read_object(request)
        with held:
            checked = _with_drop(check_chat(body, held.size), request)
            if checked.stream:
                answer = await self._service.stream(checked, deadline, caller)
                return EventStream(answer, self._headers(answer), held.keep())
            return self._whole(await self._service.complete(checked, deadline, caller))

    async def embeddings(self, request: Request, identity: Identity) -> Response:
        caller, deadline = self._caller(request, identity), self._deadline(request)
        body, held = await self._bodies.read_object(request)
        with held:
            checked = _with_drop(check_embedding_request(body, held.size), request)
            return self._whole(await self._service.embeddings(checked, deadline, caller))

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
            explain=EXPLAIN_HEADER in headers and _is_true(headers[EXPLAIN_HEADER]),
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
            return Response(as_csv(rows, columns_of(filters, groups)), media_type="text/csv", headers=NOSNIFF)
        return Json({"object": "list", "data": rows})

    async def request(self, request: Request, identity: Identity) -> Response:
        """Answer with the explanation of one request. Who sees it is decided as in `usage`."""
        key = identity.key
        viewer: Viewer | None = None if key is None else {"tenant": key.tenant or None, "key": key.name}
        return Json(await self._service.queries.request(request.path_params["name"], viewer))

    def _deadline(self, request: Request) -> Deadline:
        """Return by when to answer: before HAProxy, which waits for no deadline of a caller, ends it untyped."""
        hidden: str | None = request.scope.get(HIDDEN)
        text = request.headers.get(TIMEOUT_HEADER) if hidden is None else hidden
        deadline = self._service.deadline(text, TIMEOUT_HEADER)
        if deadline.explicit and hidden is None:
            # Serve's own proxy reads the same header, and would answer with an untyped error: end before it does.
            deadline = replace(deadline, at=deadline.at - min(0.05, 0.2 * deadline.total))
        return deadline.answer_within(self._longest_silence)

    def _headers(self, answer: Answer | StreamAnswer) -> dict[str, str]:
        """Return the headers of an answer. New headers belong here."""
        served = self._service.served_by(answer)
        headers = {
            **NOSNIFF,
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
        return Json({"object": "list", "data": [_model(name) for name in self._service.models()]})

    async def model(self, request: Request, _: Identity) -> Response:
        return Json(_model(self._service.model(request.path_params["name"])))

    async def health(self, _: Request, __: Identity) -> Response:
        return Json(await self._service.operations.system_health())

    async def providers(self, _: Request, __: Identity) -> Response:
        return Json(await self._service.operations.health_summary())

    async def provider(self, request: Request, _: Identity) -> Response:
        return Json(await self._service.operations.provider_health(request.path_params["name"]))

    async def command(self, request: Request, _: Identity) -> Response:
        name, verb = request.path_params["name"], request.path_params["verb"]
        seconds = request.query_params.get("seconds")
        return Json(await self._service.operations.command(verb, name, seconds))

    async def thresholds(self, request: Request, _: Identity) -> Response:
        if request.method != "PATCH":
            return Json(await self._service.operations.thresholds())
        changes, held = await self._bodies.read_object(request, SMALL_BODY)
        with held:
            return Json(await self._service.operations.thresholds(changes))

    async def livez(self, _: Request, __: Identity) -> Response:
        return Json({"status": "alive"})

    async def readyz(self, _: Request, __: Identity) -> Response:
        ready = self._service.operations.ready()
        return Json({"status": "ready" if ready else "no provider can be asked"}, 200 if ready else 503)


def _with_drop(checked: Checked, request: Request) -> Checked:
    """Return the request with the header's choice of which unsupported fields may be dropped."""
    word = request.headers.get(DROP_HEADER)
    return checked if word is None else replace(checked, drop=parse_drop(word, DROP_HEADER))


def _is_true(word: str) -> bool:
    """Return the header's choice. What is neither would be taken for no, and nobody would be told."""
    if word.lower() not in ("true", "false", ""):
        raise BadRequest(f"'{EXPLAIN_HEADER}' must be true or false.", EXPLAIN_HEADER)
    return word.lower() == "true"


class _Model(TypedDict):
    """A model in OpenAI's list of models."""

    id: str
    object: str
    created: int
    owned_by: str


def _model(name: str) -> _Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "breakwater"}

"""The handlers of a door: an API whose requests are answered as chat completions are. No Ray."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from deployments.doors.door import Door, Opened, dropped_of, told_in_clients_words
from deployments.errors import NoAnswer
from deployments.failover.calls import Answer
from deployments.failover.streams.answer import StreamAnswer
from deployments.ingress.asking import Asked
from deployments.ingress.body.bodies import Bodies
from deployments.ingress.responses import EncodedStream, Json, RawHeaders, WholeAnswer
from deployments.openai_api.chat import dump
from deployments.service.auth import Identity

if TYPE_CHECKING:
    from deployments.ingress.asking import Asking
    from deployments.service.service import Service

ESTIMATED = {"x-breakwater-estimated": "true"}  # no vendor's tokenizer is public and whole


class DoorHandlers:
    def __init__(self, service: "Service", asking: "Asking", bodies: Bodies, door: Door):
        self._service, self._asking, self._bodies, self._door = service, asking, bodies, door

    async def ask(self, asked: Asked) -> Response:
        opened = self._door.open(asked.body, asked.request.headers.items())
        checked = structs.replace(self._asking.with_drop(opened.request, asked.request), size=asked.held.size)
        self._service.check_dropped(checked, opened.dropped)
        with told_in_clients_words(opened.paths):
            try:
                if checked.stream:
                    stream = await self._service.stream(checked, asked.deadline, asked.caller)
                    encoder = opened.encoder(self._service.served(stream, checked))
                    return EncodedStream(stream, self._headers(stream, opened), asked.held.keep(), encoder)
                return self._whole(await self._service.complete(checked, asked.deadline, asked.caller), opened)
            except NoAnswer as error:
                self._service.measure(checked, error)
                raise

    async def count(self, request: Request, _: Identity) -> Response:
        """Answer how many tokens a prompt has, by the estimate that limits go by."""
        body, held = await self._bodies.read_object(request)
        with held:
            opened = self._door.open_to_count(body)
            with told_in_clients_words(opened.paths):
                tokens = self._service.estimate(opened.request)
            return Json(self._door.counted(tokens), headers=ESTIMATED)

    def _whole(self, answer: Answer, opened: Opened) -> Response:
        served = self._service.served(answer, opened.request)
        if answer.record.explain:
            told = self._service.served_by(answer, dropped_of(opened, answer.dropped, native=answer.native))
            served = replace(served, extra={"breakwater": told})
        body = opened.whole(json.loads(answer.body), served)
        return WholeAnswer(dump(body), self._headers(answer, opened))

    def _headers(self, answer: Answer | StreamAnswer, opened: Opened) -> RawHeaders:
        headers = self._asking.headers(answer, dropped_of(opened, answer.dropped, native=answer.native))
        return [*headers, (b"request-id", answer.record.request_id.encode("latin-1"))]

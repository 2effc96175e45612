"""Requests of other APIs by Python handle: dicts in and dicts out, errors included. No Ray."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import orjson
from msgspec import structs

from deployments.doors.door import Door, Opened, dropped_of, told_in_clients_words
from deployments.errors import BreakwaterError, error_dict
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.calls import Answer
from deployments.failover.streams.answer import StreamAnswer
from deployments.openai_api.chat import Request, check_json
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.service.answers import ServedBy
from deployments.service.arguments import CallOptions, parse_drop
from deployments.usage.caller import Caller

if TYPE_CHECKING:
    from deployments.service.service import Service


class DoorApi:
    def __init__(self, service: "Service", door: Door):
        self._service, self._door = service, door

    async def ask(self, request: object, options: CallOptions) -> JsonObject:
        """Return the API's answer with `breakwater`, which is a `ServedBy`. A failure is as in `PythonApi.chat`."""
        try:
            opened = self._open(request, stream=False)
            with told_in_clients_words(opened.paths):
                answer = await self._service.complete(*self._asked(opened, options))
        except BreakwaterError as error:
            return error_dict(error)
        served = self._service.served(answer, opened.request)
        return {**opened.whole(json.loads(answer.body), served), "breakwater": self._served_by(answer, opened)}

    async def stream(self, request: object, options: CallOptions) -> AsyncGenerator[JsonObject, None]:
        """Yield the API's events, the first with `breakwater`. What fails before them is the last item."""
        try:
            opened = self._open(request, stream=True)
            with told_in_clients_words(opened.paths):
                answer = await self._service.stream(*self._asked(opened, options))
        except BreakwaterError as error:
            yield error_dict(error)
            return
        extra: JsonObject = {"breakwater": self._served_by(answer, opened)}
        encoder = opened.encoder(self._service.served(answer, opened.request))
        try:
            async with contextlib.aclosing(answer.frames()) as frames:
                async for data in frames:
                    for event in events_in(encoder.encode(data)):
                        yield {**event, **extra}
                        extra = {}
        finally:
            await answer.close()

    def _open(self, request: object, *, stream: bool) -> Opened:
        return self._door.open({**check_json(request), "stream": stream})

    def _asked(self, opened: Opened, options: CallOptions) -> tuple[Request, Deadline, Caller]:
        checked = structs.replace(opened.request, drop=parse_drop(options.drop_unsupported))
        self._service.check_dropped(checked, opened.dropped)
        return checked, self._service.deadline(options.timeout_seconds), options.caller

    def _served_by(self, answer: Answer | StreamAnswer, opened: Opened) -> ServedBy:
        return self._service.served_by(answer, dropped_of(opened, answer.dropped, native=answer.native))


def events_in(frames: bytes) -> list[JsonDict]:
    """Return the events of some whole frames as dicts, without `[DONE]`."""
    lines = (line for frame in frames.split(b"\n\n") for line in frame.split(b"\n") if line.startswith(b"data: {"))
    return [orjson.loads(line[6:]) for line in lines]

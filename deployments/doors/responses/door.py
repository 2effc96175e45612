"""The door of OpenAI's Responses API: a request as a chat completion's, and its answer back. Pure."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deployments.doors.door import Door, Paths, Served
from deployments.doors.responses.answer.errors import body_of
from deployments.doors.responses.answer.native import NativeEncoder, native_response
from deployments.doors.responses.answer.stream import Clock, ResponseEncoder
from deployments.doors.responses.answer.whole import response_of
from deployments.doors.responses.request.read import Read, read
from deployments.errors import BreakwaterError
from deployments.openai_api.chat import Request
from deployments.openai_api.json_types import JsonDict, JsonObject


@dataclass(frozen=True, slots=True)
class OpenedResponse:
    """A request, and the client's own body, which its answer repeats."""

    _body: JsonDict
    _read: Read
    _clock: Clock

    @property
    def request(self) -> Request:
        return self._read.request

    @property
    def dropped(self) -> Sequence[str]:
        return self._read.dropped

    @property
    def paths(self) -> Paths:
        return self._read.paths

    def whole(self, completion: JsonObject, served: Served) -> JsonDict:
        if served.native:
            return native_response(completion, self._body, served)
        return response_of(completion, self._body, self._read.table, served, self._clock)

    def encoder(self, served: Served) -> ResponseEncoder | NativeEncoder:
        if served.native:
            return NativeEncoder(self._body, served)
        return ResponseEncoder(self._body, self._read.table, served, self._clock)


class ResponsesDoor:
    """`clock` tells when an answer is done, in seconds since 1970."""

    name = "responses"

    def __init__(self, clock: Clock = time.time):
        self._clock = clock

    def open(self, body: JsonDict, headers: Iterable[tuple[str, str]] = ()) -> OpenedResponse:
        """Return the request as it was read. Raises BadRequest."""
        return OpenedResponse(body, read(body), self._clock)

    def open_to_count(self, body: JsonDict) -> OpenedResponse:
        """Return the same for a request whose tokens are asked for."""
        return self.open(body)

    def counted(self, tokens: int) -> JsonDict:
        """Return the answer to such a request."""
        return {"object": "response.input_tokens", "input_tokens": tokens}

    def error(self, error: BreakwaterError, request_id: str | None = None) -> JsonDict:
        return body_of(error)

    def status_of(self, error: BreakwaterError) -> int:
        """Return the HTTP status, which is that of a chat."""
        return error.status


RESPONSES: Door = ResponsesDoor()

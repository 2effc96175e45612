"""The responses of the HTTP API: JSON, streams, and errors in OpenAI's form. No Ray."""

import contextlib
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from deployments.doors.door import Door, Encoder
from deployments.errors import (
    BodyTooSlow,
    BreakwaterError,
    InternalError,
    TooBusy,
    TooLarge,
    UnknownEncoding,
    WrongContentType,
    WrongRoute,
    error_object,
)
from deployments.failover.streams.answer import StreamAnswer
from deployments.failover.streams.hold import SIGN
from deployments.ingress.body.encodings import ENCODINGS
from deployments.ingress.body.in_flight import Held
from deployments.openai_api.chat import DONE, frame

# A browser is not to guess another type, such as a script's, from what an answer holds.
NOSNIFF: Mapping[str, str] = {"x-content-type-options": "nosniff"}

RawHeaders = list[tuple[bytes, bytes]]
_JSON = (b"content-type", b"application/json")
_OF_STREAMS = ((b"cache-control", b"no-cache"), (b"content-type", b"text/event-stream; charset=utf-8"))


class Json(JSONResponse):
    """A small answer in JSON."""

    def __init__(self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None):
        super().__init__(content, status_code, NOSNIFF if headers is None else {**NOSNIFF, **headers})


class WholeAnswer(Response):
    """A whole answer in JSON, with headers that are written as they are."""

    def __init__(self, body: bytes, headers: RawHeaders):
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body)), _JSON]


class EventStream(Response):
    """Sends a stream's frames as they come. The server cancels the response when its client goes away.

    The answer is closed however the response ends, even if its first byte could not be sent.
    """

    def __init__(self, answer: StreamAnswer, headers: RawHeaders, held: Held):
        self.status_code, self.background = 200, None
        self.raw_headers = [*headers, *_OF_STREAMS]
        self._answer, self._held = answer, held

    def _encode(self, frames: bytes) -> bytes:
        """Return the frames as this client reads them; `b""` if it reads nothing of them."""
        return frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with contextlib.aclosing(self._answer.frames()) as frames:
                more = True
                async for data in frames:
                    more = not data.endswith(DONE)  # the last bytes and the end of the body go in one write
                    if body := data if data == SIGN else self._encode(data):
                        await send({"type": "http.response.body", "body": body, "more_body": more})
            if more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._held.release()
            await self._answer.close()

    @property
    def whole(self) -> bool:
        """Whether all of the answer was sent."""
        summary = self._answer.record.summary
        return summary is not None and summary.outcome == "ok"


class EncodedStream(EventStream):
    """Sends a stream in the words of another API."""

    def __init__(self, answer: StreamAnswer, headers: RawHeaders, held: Held, encoder: Encoder):
        super().__init__(answer, headers, held)
        self._encode = encoder.encode  # type: ignore[method-assign]


def error_response(error: BreakwaterError, door: Door | None = None) -> Response:
    """Return an error in the form of a door, or else of OpenAI, with the headers that belong to it."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(attempts := getattr(error, "attempts", None), list):
        asked = [a for a in attempts if not a["outcome"].startswith("skipped")]
        headers["x-breakwater-attempts"] = str(len(asked))
    if isinstance(error, WrongRoute) and error.allowed:
        headers["allow"] = ", ".join(error.allowed)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, BodyTooSlow | TooBusy | TooLarge):
        headers["connection"] = "close"  # what is left of the body is not read
    # RFC 9110, 15.5.16: a 415 says what would have been taken.
    if isinstance(error, UnknownEncoding):
        headers["accept-encoding"] = ENCODINGS
    if isinstance(error, WrongContentType):
        headers["accept"] = error.wanted
    if door is not None:
        return Json(door.error(error), status_code=door.status_of(error), headers=headers)
    return Json(error_object(error), status_code=error.status, headers=headers)


def broken_frame(error: BreakwaterError, door: Door | None) -> bytes:
    """Return the frame of a stream that breaks off with an error, for a reader of these bytes alone."""
    if door is None:
        return frame(error_object(error))
    return b"event: error\n" + frame({"type": "error", **door.error(error)})


def is_whole(response: Response) -> bool:
    """Return whether a response that was sent held a whole answer, and not an error or a part."""
    return response.whole if isinstance(response, EventStream) else response.status_code == 200


def is_anthropics(scope: Scope) -> bool:
    """Return whether a client of Anthropic's API has sent a request, to any route."""
    path: str = scope["path"]
    return "/v1/messages" in path or any(name == b"anthropic-version" for name, _ in scope["headers"])


def response_to(error: Exception, door: Door | None = None) -> Response:
    """Return the answer to a request that failed."""
    match error:
        case BreakwaterError():
            return error_response(error, door)
        case ClientDisconnect():
            return Response(status_code=499)
    return error_response(InternalError("Breakwater failed by a bug of its own. Its log has the details."), door)

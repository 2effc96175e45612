"""The body of a request: read, decoded and parsed within limits of bytes and of time. No Ray.

What is large is decoded and parsed in slices: other requests get their turn between two of them, and one large body
is parsed at a time.
"""

import asyncio
from collections.abc import Generator

from starlette.requests import Request

from deployments.aio.turns import in_turns
from deployments.errors import BadRequest, BodyTooSlow, TooBusy, TooLarge
from deployments.ingress.body.encodings import decoded, encodings_of
from deployments.ingress.body.in_flight import BytesInFlight, Held
from deployments.openai_api.chat import json_object
from deployments.openai_api.json_types import JsonDict, JsonValue
from deployments.strict_json.quick import LARGER_BYTES, is_quick, parse_quickly
from deployments.strict_json.sliced import parse_window
from deployments.strict_json.window import Window

MAX_BODY = 32 * 1024 * 1024
SMALL_BODY = 64 * 1024  # of operators' settings
MOST_SECONDS = 60.0  # from the request's head until its body is parsed
SILENCE_SECONDS = 15.0  # between two parts of it
MOVE_SECONDS = 1.0
WHOLE_BODY = "breakwater.body"  # in the scope: all of the body, where the server has it already, and has decoded it


class Bodies:
    """Reads the bodies of one replica's requests."""

    def __init__(self, in_flight: BytesInFlight | None = None):
        self.in_flight = in_flight or BytesInFlight()
        self._turn = asyncio.Lock()  # of the large ones

    async def read_object(self, request: Request, most: int = MAX_BODY) -> tuple[JsonDict, Held]:
        """Return the JSON object of a body, and what is held of it: the caller releases it.

        Raises TooLarge, UnknownEncoding, BadRequest, BodyTooSlow, and TooBusy where this replica holds too much.
        """
        held = Held(self.in_flight)
        try:
            if (quickly := _read_quickly(request, held)) is not None:
                return json_object(quickly), held
            return json_object(await self._read(request, held, most)), held
        except BaseException:
            held.release()
            raise

    async def _read(self, request: Request, held: Held, most: int) -> JsonValue:
        header = request.headers.get("content-encoding")
        encodings = [] if header is None else encodings_of(header)
        parts = None
        self.in_flight.arriving.add(held)
        try:
            async with asyncio.timeout(SILENCE_SECONDS) as held.arriving:
                parts = await _arrived(request, held, most, held.arriving)
                for name in reversed(encodings):  # they were applied in the order of the header
                    parts = await _decoded(name, parts, held, most)
                return await self._parsed(parts)
        except TimeoutError:
            held.grow(0)  # raises if it was refused
            if parts is None:
                raise BodyTooSlow("The request body did not arrive in time.") from None
            raise TooBusy("This replica has too many large requests to parse.") from None
        finally:
            held.arriving = None
            self.in_flight.arriving.discard(held)

    async def _parsed(self, parts: list[bytes]) -> JsonValue:
        if sum(map(len, parts)) <= LARGER_BYTES and is_quick(body := b"".join(parts)):
            try:
                return parse_quickly(body)
            except ValueError as error:
                raise _of_no_json(body.lstrip()[:64], error) from None
        async with self._turn:
            window = Window(parts)
            parts.clear()  # the window lets go what it has read
            try:
                return await in_turns(parse_window(window))
            except ValueError as error:
                raise _of_no_json(window.start, error) from None


def _read_quickly(request: Request, held: Held) -> JsonValue:
    """Return the value of a small body that has arrived already; None if it is not so, or is not valid."""
    body: bytes = request.scope.get(WHOLE_BODY, b"")
    if not body or len(body) > LARGER_BYTES or not is_quick(body):
        return None
    try:
        parsed = parse_quickly(body)
    except ValueError:
        return None  # which is said of it below
    held.grow(len(body))
    return parsed


def _of_no_json(start: bytes, error: ValueError) -> BadRequest:
    """Return the refusal of a body, by how it begins behind white space."""
    return BadRequest(_why_no_json(start, error), code="invalid_json")


def _why_no_json(start: bytes, error: ValueError) -> str:
    if not start:
        return "The request body is empty: send a JSON object."
    if b"=" in start and start[:1].isalpha():
        return "The request body is not valid JSON, but a form: send a JSON object."
    if start[:2] in (b"{'", b"['"):
        return "The request body is not valid JSON: it has single quotes, and JSON has double ones."
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in start:
        return "The request body is not valid JSON: it must be in UTF-8."
    return f"The request body is not valid JSON: {error}."


async def _arrived(request: Request, held: Held, most: int, limit: asyncio.Timeout) -> list[bytes]:
    """Return the parts of the body as they were sent: to join a long one would be one long step."""
    now = asyncio.get_running_loop().time
    parts: list[bytes] = []
    moved = now()
    last = moved + MOST_SECONDS
    async for part in request.stream():
        held.grow(len(part))
        if held.size > most:
            raise _too_large(most)
        parts.append(part)
        if now() - moved > MOVE_SECONDS:  # most bodies come at once, and a limit costs more to move than a part to take
            moved = now()
            limit.reschedule(min(last, moved + SILENCE_SECONDS))
    limit.reschedule(last)
    return parts


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {most} bytes.")


async def _decoded(name: str, parts: list[bytes], held: Held, most: int) -> list[bytes]:
    pieces: list[bytes] = []

    def bounded() -> Generator[None]:
        size = 0
        for piece in decoded(name, parts):
            size += len(piece)
            if size > most:
                raise _too_large(most)
            held.grow(len(piece))
            pieces.append(piece)
            yield

    await in_turns(bounded())
    return pieces

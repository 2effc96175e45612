"""A whole answer: a chat completion as a response object. Pure.

It is made as a stream of one frame is, so both say the same.
"""

from deployments.doors.door import Served
from deployments.doors.responses.answer.events import NoEvents
from deployments.doors.responses.answer.stream import Clock, ResponseEncoder
from deployments.doors.responses.request.tools import ToolTable
from deployments.openai_api.json_types import JsonDict, JsonObject


def response_of(completion: JsonObject, body: JsonObject, table: ToolTable, served: Served, clock: Clock) -> JsonDict:
    """Return the response object. `body` is the client's request, and `clock` tells when the answer is done."""
    encoder = ResponseEncoder(body, table, served, clock, NoEvents())
    encoder.take_chunk(dict(completion))
    encoder.end()
    return {**encoder.echo, **encoder.head}

"""The providers of a site: short answers at once, and long ones at the pace of a model."""

from tests.fakes.server import ANSWER, Behaviour, FakeServer, Received
from tests.fakes.tool_use import Turn

QUESTION, AT_LENGTH = "What is the capital of France?", "Tell it at length."
PACE = 0.5  # seconds between two frames of a long answer
FRAMES = 60


class Provider(FakeServer):
    """A provider that is asked for long answers and for short ones: we ask it for a stream either way."""

    pace = PACE

    def _next(self, request: Received) -> Behaviour:
        found = super()._next(request)
        return Behaviour(pace=self.pace) if found is ANSWER and is_long(request) else found

    def _turn(self, request: Received) -> Turn:
        return Turn([" word"] * FRAMES) if is_long(request) else super()._turn(request)


def is_long(request: Received) -> bool:
    return AT_LENGTH.encode() in request.raw

"""The providers of a site: short answers at once, and long ones at the pace of a model."""

from tests.fakes.server import ANSWER, Behaviour, FakeServer, Received, Vendor
from tests.fakes.tool_use import Turn

QUESTION, AT_LENGTH = "What is the capital of France?", "Tell it at length."
PACE = 0.5  # seconds between two frames of a long answer
FRAMES = 60


class Provider(FakeServer):
    """A provider that is asked for long answers and for short ones: we ask it for a stream either way.

    `at_once` has, for each request that it failed, how many of those it had at that time.
    """

    pace = PACE

    def __init__(self, vendor: Vendor, host: str):
        self.at_once: list[int] = []
        self._failing: list[Received] = []
        super().__init__(vendor, host=host)

    def _next(self, request: Received) -> Behaviour:
        found = super()._next(request)
        if found.kind == "status":
            self._failing = [other for other in self._failing if other.under_way] + [request]
            self.at_once.append(len(self._failing))
        return Behaviour(pace=self.pace) if found is ANSWER and is_long(request) else found

    def _turn(self, request: Received) -> Turn:
        return Turn([" word"] * FRAMES) if is_long(request) else super()._turn(request)


def is_long(request: Received) -> bool:
    return AT_LENGTH.encode() in request.raw

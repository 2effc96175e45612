"""The scan of a stream of OpenAI's format that passes through. Pure.

Frames go to the client as the bytes they were wherever that is right. Most of them are not parsed: they have the shape
of one that was (shape.py). Each other frame is parsed, and read by its structure (frames.py).
"""

from deployments.providers.openai.stream.events import Batch, EventScan
from deployments.providers.openai.stream.frames import FrameReader
from deployments.providers.openai.stream.shape import Read, Run, Shape, shape_of

_WASTED = 4  # shapes in a row that no frame has had
_NEXT_TRY = 32  # frames from then on until another shape is taken


class SseScan(EventScan):
    """Scan the events of a stream that pass through. `name` is the model that the client asked for."""

    def __init__(self, name: str, *, keep_usage: bool):
        super().__init__(FrameReader(name, keep_usage))
        self._shape: Shape | None = None
        self._used = False  # has a frame had the shape?
        self._wasted = 0

    def _events(self, events: bytes) -> Batch:
        shape = self._shape
        if shape is None or not events.startswith(shape.head) or (run := shape.take(events)) is None:
            return super()._events(events)
        self._used = True
        return Batch(run.frames, run.content)

    def _run(self, events: bytes, at: int) -> tuple[Run | None, int]:
        """Return the frames of the known shape that follow, and their end: where the run began if there is none."""
        shape = self._shape
        if shape is None or not events.startswith(shape.head, at):
            return None, at
        end = events.find(b"\n\n", events.rfind(shape.head)) + 2
        run = shape.take(events[at:end])
        self._used = self._used or run is not None
        return run, end

    def _learn(self, event: bytes, read: Read) -> None:
        """Take the shape of a frame that holds content and nothing else that matters."""
        if self._shape is not None:
            self._wasted = 0 if self._used else self._wasted + 1
        self._shape, self._used = None, False
        if not read.content or read.finished or read.edits is None:
            return
        if self._wasted < _WASTED:
            self._shape = shape_of(event, read.edits, read.keys)
        else:
            self._wasted += 1
            self._wasted = 0 if self._wasted > _NEXT_TRY else self._wasted

    def _forget(self) -> None:
        self._shape = None

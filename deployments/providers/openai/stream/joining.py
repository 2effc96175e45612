"""The scan of a stream whose answer is wanted whole: its chunks are joined, and no frame is made for a client. Pure.

They are read as those that pass through are (frames.py), so a stream joins to the answer that its client would have put
together of it.
"""

from deployments.openai_api.json_types import JsonDict
from deployments.providers.base import ChunkJoin
from deployments.providers.openai.stream.chunks import ChunkReader
from deployments.providers.openai.stream.events import EventScan
from deployments.providers.openai.stream.shape import Read, Run


class JoinReader:
    """Hands each chunk on, with the model's name as the client asked for it, and with one id.

    What it returns are the provider's own frames, which tell how much had come if the answer breaks off.
    """

    def __init__(self, name: str, join: ChunkJoin):
        self.chunks = ChunkReader()
        self.model: str | None = None
        self._name, self._join = name, join
        self._id: str | None = None

    def read(self, event: bytes, data: JsonDict, choices: list[JsonDict], *, changed: bool = False) -> Read:
        """Raises AttemptFailed for an unknown finish. `changed`: the event's bytes are not its data."""
        held = self.chunks.read(data, choices)
        self._name_it(data)
        if held.usage_alone:
            if held.usage is not None:
                self._join.add_chunk(b"", {**data, "usage": held.usage})
            return Read()
        if held.account is not None:
            data["usage"] = held.account
        self._join.add_chunk(b"" if held.changed or changed else event, data)
        begun = bool(held.keys)
        return Read(event if begun or not held.ends else b"", begun, len(held.ends))

    def _name_it(self, data: JsonDict) -> None:
        model, name = data.get("model"), data.get("id")
        if not self.model and isinstance(model, str):
            self.model = model
        if self._id is None and isinstance(name, str) and name:
            self._id = name
        data["id"], data["model"] = self._id, self._name

    @property
    def tail(self) -> bytes:
        """Nothing: all that came is joined already."""
        return b""

    def end(self) -> bytes:
        return b""


class JoinScan(EventScan):
    """`name` is the model that the client asked for, and `join` gets what the stream says."""

    def __init__(self, name: str, join: ChunkJoin):
        super().__init__(JoinReader(name, join))
        self._join = join
        join.by_chunks = True

    def _run(self, events: bytes, at: int) -> tuple[Run | None, int]:
        end, says = self._join.take_run(events, at)
        return (Run(events[at:end], says) if end > at else None), end

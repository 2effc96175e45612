"""What a door does: it reads a request of its API as a chat completion's, and writes the answer in its own words. Pure.

What a target can't know of a request (whether a tool was a custom one, say) is kept in `Opened`, for its answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from deployments.errors import BreakwaterError, Entry
from deployments.openai_api.chat import Request
from deployments.openai_api.json_types import JsonDict, JsonObject


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer says of its request.

    Attributes:
        id: the request's name here, in hexadecimal: the ids of an answer are made of it.
        created: seconds since 1970.
        extra: more fields of the answer, as `breakwater` where its caller wants an explanation.
        estimate: about how many tokens the prompt has, for what is said before a provider has counted them.
        native: whether its target was asked by the client's own API, and has answered in its words.
    """

    id: str
    created: int
    extra: JsonObject = field(default_factory=dict)
    estimate: int = 0
    native: bool = False


class Encoder(Protocol):
    """Turns one stream of a chat completion into the API's own."""

    def encode(self, frames: bytes) -> bytes:
        """Return the API's frames for some whole frames of a chat completion's stream; `b""` if there is nothing yet.

        The frames of an answer that is native are the API's own, but for an error and `[DONE]`.
        The last of them are `[DONE]`, or an error frame: behind either the answer has ended, in the API's way.
        """
        ...


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the fields of a chat request stand in the client's own, as paths: `messages.3` is `input.5`, say.

    Attributes:
        fields: by a field's name or path (`max_completion_tokens`, `tools.function`).
        messages: by the index of a message.
        tools: by the index of a tool.
        inner: the client's names for what stands in a tool: `function.parameters` is `input_schema`, say.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    messages: Sequence[str] = ()
    tools: Sequence[str] = ()
    inner: Mapping[str, str] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """Return the client's path of a path in the chat request."""
        head, _, rest = path.partition(".")
        index, _, inside = rest.partition(".")
        if head == "messages" and index.isdigit() and int(index) < len(self.messages):
            return self.messages[int(index)]
        if head == "tools" and index.isdigit() and int(index) < len(self.tools):
            return ".".join(filter(None, (self.tools[int(index)], self._inner(inside))))
        known = max((name for name in self.fields if path == name or path.startswith(f"{name}.")), key=len, default="")
        return f"{self.fields[known]}{path[len(known) :]}" if known else path

    def _inner(self, path: str) -> str:
        for chats, clients in self.inner.items():
            if path == chats or path.startswith(f"{chats}."):
                return f"{clients}{path[len(chats) :]}".strip(".")
        return path


class Opened(Protocol):
    """A request as its door has read it."""

    @property
    def request(self) -> Request:
        """Return the same as a checked request of a chat completion."""
        ...

    @property
    def dropped(self) -> Sequence[str]:
        """Return the paths of what no target will see."""
        ...

    @property
    def paths(self) -> Paths: ...

    def whole(self, completion: JsonObject, served: Served) -> JsonDict:
        """Return a whole answer: of a completion, or of one in the API's own words if it is native."""
        ...

    def encoder(self, served: Served) -> Encoder: ...


class Door(Protocol):
    """`name` is that of the API, in accounts, logs and metrics too."""

    name: str

    def open(self, body: JsonDict, headers: Iterable[tuple[str, str]] = ()) -> Opened:
        """Return the request as it was read. Raises BadRequest in the client's words.

        `headers` are those with which it came by HTTP, with names in lower case.
        """
        ...

    def open_to_count(self, body: JsonDict) -> Opened:
        """Return the same for a request whose tokens are asked for, and no answer."""
        ...

    def counted(self, tokens: int) -> JsonDict:
        """Return the answer to such a request."""
        ...

    def error(self, error: BreakwaterError, request_id: str | None = None) -> JsonDict:
        """Return the body of an error."""
        ...

    def status_of(self, error: BreakwaterError) -> int:
        """Return the HTTP status of an error, by which the API's clients go."""
        ...


def dropped_of(opened: Opened, dropped: Iterable[str], *, native: bool) -> list[str]:
    """Return what was left out by a request's door and of its chat (`dropped`), in the client's words.

    `native`: the target was asked by the client's own API, so the door's words for a chat do not count.
    """
    own = opened.request.native.left_out() if native and opened.request.native is not None else opened.dropped
    return [*own, *map(opened.paths.of, dropped)]


@contextmanager
def told_in_clients_words(paths: Paths) -> Iterator[None]:
    """Let the errors of what is done for a request name its fields as its client wrote them."""
    try:
        yield
    except BreakwaterError as error:
        raise in_clients_words(error, paths) from error.__cause__


def in_clients_words(error: BreakwaterError, paths: Paths) -> BreakwaterError:
    """Return an error that names the fields as its client wrote them: it is changed in place."""
    if error.in_clients_words:
        return error
    if error.param is not None and (param := paths.of(error.param)) != error.param:
        error.args = tuple(_renamed(text, error.param, param) for text in error.args)
        error.param = param
    attempts = getattr(error, "attempts", None)
    if isinstance(attempts, list):
        attempts[:] = [_entry(entry, paths) for entry in attempts]
    return error


def _renamed(text: object, old: str, new: str) -> object:
    return text.replace(f"'{old}'", f"'{new}'") if isinstance(text, str) else text


def _entry(entry: Entry, paths: Paths) -> Entry:
    param = entry.get("param")
    return {**entry, "param": paths.of(param)} if isinstance(param, str) else entry

"""The form in which a kind of provider takes a request: whole, without some fields, or not at all. Pure.

The caller says which unsupported fields may be left out. `hints` (default): those on which the answer does not depend.
`none`: no field, so a provider that lacks one is not asked. `all`: every field, but never a part of a message.

Whether a target takes a request depends on its fields, and in messages on their parts, never on the words. So what was
found out for one request of a *shape* holds for the next one. To know the shape of a chat costs a tenth of what it
costs to fit it for two targets.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from msgspec import Struct, structs

from deployments.openai_api.capabilities import Unsupported, find_unsupported
from deployments.openai_api.chat import Drop, Native, Request
from deployments.openai_api.embeddings import all_texts
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.kinds import KINDS
from deployments.routing.image_fetch import with_placeholder_images

Shape: TypeAlias = tuple[Hashable, ...]
UnsupportedFinder = Callable[[str, JsonObject, str], Unsupported]  # of a kind of provider, a request and a model

_EMBEDDING_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions"})
_NEEDED = frozenset({"model", "messages", "input"})  # without them it is no request
_HEADER_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LONGEST_WORD = 64  # characters of a field's text: clients may send any number of others
MOST_MESSAGES = 200  # of a chat: the shape of a longer one would hardly come again
_SCALARS = frozenset({str, int, float, bool, type(None)})
MOST_HEADER_NAMES = 16  # in a header; a client can name any number of fields


class RequestFit(Struct, frozen=True):
    """A request in the form in which one target takes it.

    Attributes:
        body: the request, without the fields that only this target's kind of provider must not get.
        missing: unsupported fields for which the target can't be asked.
        dropped: unsupported fields that are left out.
        bug: what our own code raised over it; the target can't be asked then.
        demands: what the client's own request demands and the target can't do, by the client's paths.
        extras: what the target gets of the client's own request, and no chat has; None if it gets the chat.
        outside: whether the target is outside of the request's scope, so that it must not be asked.
        row: the row of the target, where the configuration adds something to its requests.
    """

    body: JsonObject
    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    bug: Exception | None = None
    demands: tuple[str, ...] = ()
    extras: JsonObject | None = None
    outside: bool = False
    row: str | None = None

    @property
    def lacks(self) -> tuple[str, ...]:
        """Return all for which the target can't be asked."""
        return (*self.demands, *self.missing)


def fit_request(find: UnsupportedFinder, kind: str, body: JsonObject, drop: Drop, model: str = "") -> RequestFit:
    """Return the request in the form in which this kind of provider takes it, for one of its models."""
    found = find(kind, body, model)
    if not (found.missing or found.dropped):
        return RequestFit(body)
    if drop == "none":
        return RequestFit(body, found.missing + found.dropped)
    if drop == "hints" or not found.missing:
        return RequestFit(body, found.missing, found.dropped)
    gone = {name for name in found.missing if name in body and name not in _NEEDED}
    if "tools" in gone:
        gone |= {"tool_choice", "parallel_tool_calls"} & body.keys()  # both refer to the tools
    rest = {name: value for name, value in body.items() if name not in gone}
    left = find(kind, rest, model)
    return RequestFit(rest, left.missing, tuple(n for n in body if n in gone) + left.dropped)


def fit_native(native: Native, chat: JsonObject, dropped: tuple[str, ...], drop: Drop) -> RequestFit:
    """Return the request for a target that takes it as its client wrote it.

    `chat` is the same as its model takes it, and `dropped` are the hints that it goes without. Whatever else its
    server does not support it refuses by itself.
    """
    if drop == "none":
        return RequestFit(chat, dropped, demands=tuple(native.left_out()), extras=native.extras())
    return RequestFit(chat, dropped=dropped, extras=native.extras())


def fit_translated(native: Native, fit: RequestFit, drop: Drop) -> RequestFit:
    """Return the fit of a chat that was made of a request in other words, at a target that gets the chat alone."""
    demands = (*native.demands, *(native.lost if drop == "none" else ()))
    return structs.replace(fit, demands=demands) if demands else fit


def unsupported_in_chat(kind: str, body: JsonObject, model: str = "") -> Unsupported:
    """Return the unsupported fields of a chat request. An image by URL counts as one in the request itself."""
    row = KINDS[kind]
    if row.passes_through:
        return Unsupported()
    return find_unsupported(row.capabilities, with_placeholder_images(body), model)


def unsupported_in_embedding(kind: str, body: JsonObject, _model: str = "") -> Unsupported:
    """Return the unsupported fields of an embedding request."""
    if not KINDS[kind].embeds:
        return Unsupported(("model",))
    if KINDS[kind].passes_through:
        return Unsupported()
    missing = [n for n, v in body.items() if n not in _EMBEDDING_FIELDS and n != "user" and v is not None]
    if not all_texts(body):
        missing.append("input")  # tokens of one model mean nothing to another
    return Unsupported(tuple(missing), ("user",) if body.get("user") is not None else ())


_THINGS = {"image_url": "the image", "input_audio": "the audio", "file": "the file", "video_url": "the video"}


def thing_at(path: str, body: JsonObject) -> str:
    """Return what a field is in words, if it is what a message holds beside text; else its path in quotes."""
    match path.split("."):
        case ["messages", index, "content"] if isinstance(parts := body["messages"][int(index)].get("content"), list):
            kinds = [part.get("type") for part in parts]
            found = next((_THINGS[kind] for kind in kinds if kind in _THINGS), None)
            return f"'{path}'" if found is None else f"{found} in '{path}'"
    return f"'{path}'"


def dropped_header(names: Sequence[str]) -> str:
    """Return field names, which a client may have chosen, as the value of a header."""
    plain = [name if _HEADER_SAFE.fullmatch(name) else "?" for name in names[:MOST_HEADER_NAMES]]
    more = len(names) - len(plain)
    return ", ".join([*plain, *([f"and {more} more"] if more else [])])


def shape_of(request: Request) -> Shape | None:
    """Return the shape of a chat; None for one that has other than texts, empty ones, or fields of several values."""
    body = request.body
    messages = body["messages"]
    if request.native is not None or len(messages) > MOST_MESSAGES:
        return None
    shape: list[Hashable] = [request.models, request.drop]
    for message in messages:
        text = message.get("content")
        if len(message) != 2 or type(text) is not str or not text or text.isspace():
            return None
        shape.append(message["role"])
    for name, value in body.items():
        if name == "messages":
            continue
        if name == "stream_options" and type(value) is dict:
            for inner in value.items():
                if not _is_scalar(inner[1]):
                    return None
                shape.append((name, *inner, type(inner[1])))
        elif _is_scalar(value):
            shape.append((name, value, type(value)))  # `1` and `True` are equal, and not the same
        else:
            return None
    return tuple(shape)


def _is_scalar(value: JsonValue) -> bool:
    of = type(value)
    return of in _SCALARS and (of is not str or len(value) <= LONGEST_WORD)

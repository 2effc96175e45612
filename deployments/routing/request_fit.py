"""What becomes of a request for one kind of provider: sent, sent without some fields, or not at all. Pure.

Where the line is drawn is the caller's to say. By default (`hints`) only what an answer does not depend
on is left out; `none` leaves out nothing: whoever lacks a field is not asked; `all` leaves out any field
that a provider can't do, but never a part of a message.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.openai_api.capabilities import Fit, fit
from deployments.openai_api.chat import Drop
from deployments.openai_api.embeddings import all_texts
from deployments.providers.kinds import KINDS
from deployments.routing.image_fetch import pictured

Fitting = Callable[[str, Mapping[str, Any]], Fit]

_EMBEDDING_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions"})
_PLAIN = re.compile(r"[\w.-]{1,64}")
MOST_NAMES = 16  # a client can name any number of fields; a header holds so many


@dataclass(frozen=True, slots=True)
class RequestFit:
    body: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def fit_request(fitting: Fitting, kind: str, body: Mapping[str, Any], drop: Drop) -> RequestFit:
    found = fitting(kind, body)
    if not (found.missing or found.dropped):
        return RequestFit(body)
    if drop == "none":
        return RequestFit(body, found.missing + found.dropped)
    if drop == "hints" or not found.missing:
        return RequestFit(body, found.missing, found.dropped)
    gone = {name for name in found.missing if name in body and name != "messages"}
    if "tools" in gone:
        gone |= {"tool_choice", "parallel_tool_calls"} & body.keys()  # they speak of nothing then
    rest = {name: value for name, value in body.items() if name not in gone}
    left = fitting(kind, rest)
    return RequestFit(rest, left.missing, tuple(n for n in body if n in gone) + left.dropped)


def chat_fit(kind: str, body: Mapping[str, Any]) -> Fit:
    """`abilities.fit`, with an image that is named by URL as good as one that is there."""
    row = KINDS[kind]
    return Fit() if row.passes_through else fit(row.capabilities, pictured(body))


def embedding_fit(kind: str, body: Mapping[str, Any]) -> Fit:
    if KINDS[kind].passes_through:
        return Fit()
    missing = [n for n, v in body.items() if n not in _EMBEDDING_FIELDS and n != "user" and v is not None]
    if not all_texts(body):
        missing.append("input")  # tokens mean something to their own model alone
    return Fit(tuple(missing), ("user",) if body.get("user") is not None else ())


def dropped_header(names: tuple[str, ...]) -> str:
    """Field names that came from a client, as a header may hold them."""
    plain = [name if _PLAIN.fullmatch(name) else "?" for name in names]
    return ", ".join([*plain[:MOST_NAMES], *(["..."] if len(plain) > MOST_NAMES else [])])

"""What vendors refuse, by their documents and by public reports: one module a vendor, one small function a rule.

A rule takes a request as its vendor gets it, and returns the vendor's refusal or None. It decides by the model's id
whether it holds. Its docstring names its source: a page of the vendor, or `owner/repository#number`. Where a rule rests
on one report, the fake believes it: what is safe for the report is safe without it.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote


class Asked(Protocol):
    """A request as a vendor gets it. The names of `headers` are in lower case."""

    @property
    def path(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A vendor's answer to a request that it does not take."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """The body as it is sent: JSON, or the text of a page."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


Rule = Callable[[Asked], Refusal | None]

_IN_PATH = re.compile(r"/(?:model|models|deployments)/([^/?:]+(?::\d+)?)")


def model_of(asked: Asked) -> str:
    """Return the model's id, from the path where the vendor has it there."""
    found = _IN_PATH.search(unquote(asked.path))
    return found.group(1) if found else str(asked.body.get("model", ""))


def first_refusal(rules: Iterable[Rule], asked: Asked) -> tuple[str, Refusal] | None:
    """Return the name of the first rule that refuses, and its refusal."""
    for rule in rules:
        if (refusal := rule(asked)) is not None:
            return f"{rule.__module__.rpartition('.')[2]}.{rule.__name__}", refusal
    return None


def nodes_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each object inside a JSON schema, itself included."""
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes_of(inner)

"""What a configuration adds to each request of a provider or of a row's target: fields, headers, a query. Pure.

They are what the SDKs call `extra_body`, `extra_headers` and `extra_query`. They go over what was written before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from yarl import URL

from deployments.openai_api.json_types import JsonDict, JsonObject


@dataclass(frozen=True, slots=True)
class Extras:
    """`headers` and `query` may hold secrets, so they are in no repr. The names of `headers` are in lower case."""

    body: JsonObject = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    def over(self, general: "Extras | None") -> "Extras":
        """Return both as one, with these over the general ones."""
        if general is None:
            return self
        body = merged(general.body, self.body)
        return Extras(body, {**general.headers, **self.headers}, {**general.query, **self.query})

    def add_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers of a request with these in place of those of the same names."""
        if not self.headers:
            return headers
        return {**{name: word for name, word in headers.items() if name.lower() not in self.headers}, **self.headers}

    def add_query(self, url: URL) -> URL:
        """Return the URL of a request with this query behind its own."""
        if not self.query:
            return url
        return URL(f"{url}{'&' if url.raw_query_string else '?'}{urlencode(self.query)}", encoded=True)


def merged(body: JsonObject, more: JsonObject) -> JsonDict:
    """Return a body with more in it: an object goes into an object, and whatever else in place of what was there."""
    made: JsonDict = dict(body)
    for name, value in more.items():
        own: Any = made.get(name)
        made[name] = merged(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return made


class RowExtras:
    """What is added to the requests of one provider: to all, and to those of a row's target with its own over it.

    `of_rows` are the latter by row and model.
    """

    def __init__(self, general: Extras | None, of_rows: Mapping[tuple[str, str], Extras]):
        self._general = general
        self._of_rows = {place: own.over(general) for place, own in of_rows.items()}

    def __bool__(self) -> bool:
        return self._general is not None or bool(self._of_rows)

    def of(self, row: str | None, model: str) -> Extras | None:
        """Return what is added to a request; None if nothing is. `row` is None where its target adds nothing."""
        return self._general if row is None else self._of_rows.get((row, model), self._general)


NO_EXTRAS = RowExtras(None, {})

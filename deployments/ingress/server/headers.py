"""Each header of a request once: found out where the request arrives, and read by all who come after. Pure."""

from collections.abc import Mapping

from starlette.types import Scope

Headers = Mapping[bytes, bytes]
FIRST_HEADERS = "breakwater.headers"  # in the scope


def first_headers(scope: Scope) -> Headers:
    """Return each header of a request once: of one that was sent twice the first counts."""
    found: Headers | None = scope.get(FIRST_HEADERS)
    if found is None:
        found = scope[FIRST_HEADERS] = dict(reversed(scope["headers"]))
    return found


def add_header(scope: Scope, name: bytes, value: bytes) -> None:
    """Add a header to a request that has none of this name."""
    scope["headers"].append((name, value))
    if FIRST_HEADERS in scope:
        scope[FIRST_HEADERS][name] = value

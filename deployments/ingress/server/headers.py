"""Each header of a request once: found out where the request arrives, and read by all who come after. Pure."""

from collections.abc import Mapping

from starlette.types import Scope

Headers = Mapping[bytes, bytes]
_FIRST = "breakwater.headers"  # in the scope


def first_headers(scope: Scope) -> Headers:
    """Return each header of a request once: of one that was sent twice the first counts."""
    found: Headers | None = scope.get(_FIRST)
    if found is None:
        found = scope[_FIRST] = dict(reversed(scope["headers"]))
    return found


def add_header(scope: Scope, name: bytes, value: bytes) -> None:
    """Add a header to a request that has none of this name."""
    scope["headers"].append((name, value))
    if _FIRST in scope:
        scope[_FIRST][name] = value


def with_headers(scope: Scope, headers: list[tuple[bytes, bytes]]) -> Scope:
    """Return the scope with these headers in place of its own."""
    return {**{name: value for name, value in scope.items() if name != _FIRST}, "headers": headers}

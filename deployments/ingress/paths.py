"""The path of a request as clients write it: with a slash too many, before or behind. No Ray.

A base URL that ends in a slash makes `//` (Vivswan/litellm-vscode-chat#54). A redirect would do for some clients, but
others send no body to it, so the request is served at the path that was meant.
"""

import re

from starlette.types import Scope

_SLASHES = re.compile(r"/{2,}")


def tidy(scope: Scope) -> Scope:
    """Return the scope with its path without needless slashes; the same scope if it has none."""
    path: str = scope["path"]
    if "//" not in path and (not path.endswith("/") or path == "/"):
        return scope
    root = scope.get("root_path", "")
    short = _SLASHES.sub("/", path).rstrip("/")
    if short == root:
        short += "/"  # the root itself, which is the console
    return scope if short == path else {**scope, "path": short, "raw_path": short.encode()}

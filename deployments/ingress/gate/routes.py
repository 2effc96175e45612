"""One row of the table of routes: who may call it, and what body it takes. gate.py holds each request to its row."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from deployments.keys.key import KeyScope
from deployments.service.auth import Access, Identity

Handler = Callable[[Request, Identity], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """No column has a default: who adds a route decides each."""

    method: str
    path: str
    access: Access
    scope: KeyScope | None  # that a key needs; None: every key will do
    most_bytes: int  # that its body may have; 0: it reads none
    content_type: str | None  # that its body must have; None: it reads none
    handler: Handler

"""What a request to a route that is not there may have meant, and which methods a path has. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from deployments.validation import nearest

LONGEST_PATH = 200  # characters of it that an answer repeats
_READY = "Ask /livez or /readyz."
_CHAT = "Use POST /v1/chat/completions."
# What people look for, by the last part of its path.
_ELSEWHERE: Mapping[str, str] = {
    "metrics": "Metrics are at a port of Ray's, not here: see docs/observability.md.",
    **dict.fromkeys(
        ("docs", "redoc", "swagger", "openapi.yaml", "swagger.json"), "The API is described at /openapi.json."
    ),
    **dict.fromkeys(("healthz", "health", "ping", "ready", "live", "alive", "liveness", "readiness"), _READY),
    **dict.fromkeys(("completions", "chat", "generate"), _CHAT),  # OpenAI's, Ollama's
    **dict.fromkeys(("tags", "engines"), "Use GET /v1/models."),
    **dict.fromkeys(("console", "dashboard", "status", "ui"), "The console is at /."),
}
_SERVED = ("/chat/completions", "/embeddings", "/models", "/responses", "/messages")


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """Return the methods that the path has; none if there is no such path."""
    found = [r for r in routes if isinstance(r, Route) and r.matches(scope)[0] is not Match.NONE]
    named = [r for r in found if not r.param_convertors]  # one that names the path itself, and no pattern of paths
    return sorted({method for r in named or found for method in r.methods or ()})


def hint_at(path: str, routes: Sequence[BaseRoute]) -> str:
    """Return where to look instead of a path that is not there; empty if nobody knows."""
    for served in _SERVED:
        if path.endswith(served):
            return f"Did you mean /v1{served}? A client's base URL ends with /v1, once."
    if (elsewhere := _ELSEWHERE.get(path.rsplit("/", 1)[-1].lower())) is not None:
        return elsewhere
    near = nearest(path, [r.path for r in routes if isinstance(r, Route) and "{" not in r.path])
    return "" if near is None else f"Did you mean {near}?"

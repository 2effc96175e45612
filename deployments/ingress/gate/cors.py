"""Answers to browsers whose page is of another origin. No Ray.

Without the setting no page of another origin can read an answer, nor send a request in JSON: a service without keys
on this machine must not be open to every page that its user visits. So there is no default but none.
"""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from deployments.config.settings import CorsSettings

MAX_AGE = 7200  # seconds; browsers keep a preflight's answer no longer
EXPOSED = (
    *("x-breakwater-provider", "x-breakwater-model", "x-breakwater-attempts", "x-breakwater-request-id"),
    *("x-breakwater-place", "x-breakwater-degraded", "x-breakwater-dropped", "x-request-id", "retry-after"),
)


def with_cors(app: ASGIApp, settings: CorsSettings | None) -> ASGIApp:
    """Return the application with the headers that let pages of these origins call it; unchanged without settings."""
    if settings is None:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.origins,
        allow_methods=("GET", "POST", "PATCH"),
        allow_headers=("*",),  # OpenAI's own client sends a dozen of its own, and a key is a header that it must add
        expose_headers=EXPOSED,
        max_age=MAX_AGE,
    )

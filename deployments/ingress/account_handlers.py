"""The handlers of the routes that tell what was asked and used: usage, limits, traffic, requests. No Ray.

The admin key sees all, any other key what its tenant has, or itself. Without keys, everybody sees all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from actors.ledger.budget import subjects_of
from actors.ledger.messages import Viewer
from actors.ledger.rollup import columns_of
from deployments.ingress.responses import NOSNIFF, Json
from deployments.service.auth import Identity
from deployments.usage.caller import as_csv, instant_of, question_of

if TYPE_CHECKING:
    from deployments.service.queries import Queries

LIVE = {"cache-control": "no-store"}


class AccountHandlers:
    def __init__(self, queries: "Queries"):
        self._queries = queries

    async def usage(self, request: Request, identity: Identity) -> Response:
        """Answer a usage query."""
        filters, groups = question_of(request.query_params)
        if (key := identity.key) is not None:
            filters |= {"tenant": key.speaks_for(filters.get("tenant"))} if key.tenant else {"key": key.name}
        rows = await self._queries.usage(filters, groups)
        if request.query_params.get("format") == "csv" or "text/csv" in request.headers.get("accept", ""):
            return Response(as_csv(rows, columns_of(filters, groups)), media_type="text/csv", headers=NOSNIFF)
        return Json({"object": "list", "data": rows})

    async def request(self, request: Request, identity: Identity) -> Response:
        """Answer with the explanation of one request."""
        return Json(await self._queries.request(request.path_params["name"], viewer_of(identity)))

    async def requests(self, request: Request, identity: Identity) -> Response:
        """Answer with a page of requests, the newest first."""
        filters, before, limit = page_of(request.query_params)
        return Json(await self._queries.requests(filters, before, limit, viewer_of(identity)), headers=LIVE)

    async def limits(self, _: Request, identity: Identity) -> Response:
        """Answer with how much of each limit is used: of the caller's own, for who holds a key."""
        key = identity.key
        own = None if key is None else subjects_of(key.tenant or None, key.name)
        return Json({"object": "list", "data": await self._queries.limits(own)}, headers=LIVE)

    async def traffic(self, _: Request, __: Identity) -> Response:
        """Answer with the figures of the last hour and day."""
        return Json(await self._queries.traffic(), headers=LIVE)


def viewer_of(identity: Identity) -> Viewer | None:
    """Return whose requests a caller may see; None: all."""
    key = identity.key
    return None if key is None else {"tenant": key.tenant or None, "key": key.name}


def page_of(parameters: Mapping[str, str]) -> tuple[dict[str, Any], str | None, str | None]:
    """Return the filters, the cursor and the length of the page that is asked for. An empty one is none."""
    given: dict[str, Any] = {name: text for name, text in parameters.items() if text}
    for name in ("since", "until"):
        if name in given:
            given[name] = instant_of(given[name], name)
    return given, given.pop("before", None), given.pop("limit", None)

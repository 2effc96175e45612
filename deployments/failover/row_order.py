"""In which order the targets of a request stand, before it is known who is healthy. No Ray."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deployments.openai_api.chat import Request

if TYPE_CHECKING:
    from deployments.failover.ground import Ground
    from deployments.routing.request_fit import RequestFit
    from deployments.telemetry.request_record import RequestRecord


def row_of(fits: "Mapping[str, RequestFit]", request: Request, record: "RequestRecord", ground: "Ground") -> list[str]:
    """Return the targets that can take a request, in the order in which they are to be asked."""
    row = _by_cache(ground.rows.places.ordered(list(fits), record.spread_key), record, ground)
    return _by_tools(row, fits, request)


def _by_tools(row: list[str], fits: "Mapping[str, RequestFit]", request: Request) -> list[str]:
    """Return the targets with those first that run the tools which the request offers, and no model of others has.

    The others can still answer without such a tool, if all of those are out.
    """
    if request.native is None or not request.native.hosted:
        return row
    return sorted(row, key=lambda target: fits[target].extras is None)


def _by_cache(row: list[str], record: "RequestRecord", ground: "Ground") -> list[str]:
    """Return the targets with the one first that has the conversation's prompt in its cache, if it is healthy."""
    key, breaker = record.session, ground.breaker
    first = None if key is None or not row else ground.affinity.preferred(key, row, breaker.now())
    if first is None:
        return row
    record.bound = first
    if first == row[0] or not any(not c.probe for c in breaker.plan([first]).candidates):
        return row
    return [first, *(target for target in row if target != first)]

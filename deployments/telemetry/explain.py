"""The explanation of one request, for `/v1/requests/{id}` and `x-breakwater-explain`. Pure.

It has the same shape from an ingress's memory and from the ledger: who asked for what, how it ended, and for each
candidate in order why it was skipped, or how its attempt ended. It has no content of any message.
"""

import json
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from actors.breaker.plan import parts_of, place_of
from actors.ledger.messages import Viewer
from actors.ledger.rows import NANOS
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.telemetry.request_record import TOKENS, RequestRecord, RequestSummary


class PlaceName(TypedDict):
    place: NotRequired[str]


class RequestHead(TypedDict):
    """A request without its candidates. Times are milliseconds; `began_at` is since the epoch."""

    request_id: str
    x_request_id: str | None  # the caller's own id
    tenant: str | None
    agent: str | None
    key: str | None  # the name of its API key
    door: str  # by which API it came: http, responses, messages or handle
    row: str
    stream: bool
    began_at: int
    outcome: str
    provider: str | None  # that answered
    model: str | None
    place: NotRequired[str]  # of the provider, if that has places
    attempts: int
    ms: float | None  # None while the request is open
    first_token_ms: float | None
    added_ms: float | None  # our own part of `first_token_ms`
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    cost_usd: float | None  # None if the cost of one attempt is unknown
    failed_over: bool  # whether another target answered than the one whose turn it was, because that failed


class ExplainedRequest(RequestHead):
    """A request with its candidates, skipped, asked or not reached, in order."""

    candidates: list[JsonDict]


class RequestsPage(TypedDict):
    """A page of requests. `looked_back_to` is milliseconds since the epoch."""

    data: list[RequestHead]
    next: str | None  # `before` of the next page; None behind the last
    looked_back_to: int


# A request that is over: what its head says, in that order but for `target`, and its candidates in JSON. It holds no
# other container, so that the garbage collector does not look into it.
Kept = tuple[Any, ...]
TENANT, KEY, CALLERS_ID, BEGAN_AT = 2, 4, 1, 8


def kept_of(summary: RequestSummary) -> Kept:
    """Return a request that is over as it is kept."""
    caller, used = summary.caller, summary.used
    return (
        summary.request_id,
        caller.request_id,
        caller.tenant,
        caller.agent,
        caller.key_name,
        caller.door,
        summary.row,
        summary.stream,
        summary.began_at,
        summary.outcome,
        summary.target,
        len(summary.attempts),
        summary.ms,
        summary.first_ms,
        summary.added_ms,
        used["tokens_in"],
        used["tokens_out"],
        used["tokens_cached"],
        used["tokens_reasoning"],
        used["cost"],
        summary.failed_over,
        summary.candidates_json,
    )


def head_of(kept: Kept) -> RequestHead:
    """Return a request that is over without its candidates."""
    request_id, x_request_id, tenant, agent, key, door, row, stream, began_at, outcome, target, attempts, *rest = kept
    ms, first_ms, added_ms, tokens_in, tokens_out, tokens_cached, tokens_reasoning, cost, failed_over, _ = rest
    provider, model = parts_of(target or "")
    return {
        "request_id": request_id,
        "x_request_id": x_request_id,
        "tenant": tenant,
        "agent": agent,
        "key": key,
        "door": door,
        "row": row,
        "stream": stream,
        "began_at": began_at,
        "outcome": outcome,
        "provider": provider or None,
        "model": model or None,
        **_place_in(place_of(target or "")),
        "attempts": attempts,
        "ms": ms,
        "first_token_ms": first_ms,
        "added_ms": added_ms,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "tokens_cached": tokens_cached,
        "tokens_reasoning": tokens_reasoning,
        "cost_usd": _dollars(cost),
        "failed_over": failed_over,
    }


def explained(kept: Kept) -> ExplainedRequest:
    """Return a request that is over with its candidates."""
    return {**head_of(kept), "candidates": json.loads(kept[-1])}


def explain(record: RequestRecord) -> ExplainedRequest | None:
    """Return the explanation of a request that is over; None while it is under way."""
    return None if record.summary is None else explained(kept_of(record.summary))


def _place_in(place: str) -> PlaceName:
    return {"place": place} if place else {}


def from_ledger(row: JsonObject, attempts: list[JsonObject]) -> ExplainedRequest:
    """Return the explanation of a request from its row in the ledger and those of its attempts.

    A request that is still open, or that was lost, has its attempts for candidates.
    """
    candidates: list[JsonDict] = json.loads(row["trail"]) if row["trail"] else [_candidate(a) for a in attempts]
    place = next((c.get("place", "") for c in candidates if c["outcome"] == "ok"), "")
    return {**head_from_ledger(row, attempts), **_place_in(place), "candidates": candidates}


def head_from_ledger(row: JsonObject, attempts: Sequence[JsonObject]) -> RequestHead:
    """Return a request without its candidates, from its row and what its attempts have used."""
    costs = [a["cost"] for a in attempts]
    first = [a["first_ms"] for a in attempts if a["first_ms"] is not None]
    ended_at = row["ended_at"]
    tokens = {name: sum(a[name] for a in attempts) for name in TOKENS}
    first_ms = row.get("first_ms")  # an actor of an earlier version does not know it
    return {
        "request_id": row["request_id"],
        "x_request_id": row["caller_id"],
        "tenant": row["tenant"],
        "agent": row["agent"],
        "key": row["key_name"],
        "door": row["door"],
        "row": row["model_row"],
        "stream": row["stream"],
        "began_at": row["began_at"],
        "outcome": row["outcome"] or row["state"],
        "provider": row["provider"],
        "model": row["model"],
        "attempts": len(attempts),
        "ms": None if ended_at is None else float(ended_at - row["began_at"]),
        "first_token_ms": first_ms if first_ms is not None else first[-1] if first else None,
        "added_ms": row.get("added_ms"),
        "tokens_in": tokens["tokens_in"],
        "tokens_out": tokens["tokens_out"],
        "tokens_cached": tokens["tokens_cached"],
        "tokens_reasoning": tokens["tokens_reasoning"],
        "cost_usd": _dollars(None if None in costs else sum(costs)),
        "failed_over": bool(row.get("failed_over")),
    }


def _candidate(attempt: JsonObject) -> JsonDict:
    return {
        "provider": attempt["provider"],
        "model": attempt["model"],
        "outcome": attempt["kind"] or attempt["state"],
        "ms": attempt["ms"],
        "first_token_ms": attempt["first_ms"],
    }


def _dollars(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / NANOS


def may_see(viewer: Viewer | None, found: RequestHead) -> bool:
    """Return whether a viewer may see a request. Without a viewer every request may be seen."""
    return sees(viewer, found["tenant"], found["key"])


def sees(viewer: Viewer | None, tenant: str | None, key: str | None) -> bool:
    """Return whether a viewer may see the requests of this tenant, asked by this key."""
    if viewer is None:
        return True
    return key == viewer["key"] if viewer["tenant"] is None else tenant == viewer["tenant"]

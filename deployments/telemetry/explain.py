"""The explanation of one request, for `/v1/requests/{id}` and `x-breakwater-explain`. Pure.

It has the same shape from an ingress's memory and from the ledger: who asked for what, how it ended, and for each
candidate in order why it was skipped, or how its attempt ended. It has no content of any message.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator
from typing import NotRequired, TypedDict

from actors.breaker.plan import parts_of, place_of
from actors.ledger.messages import Viewer
from actors.ledger.rows import NANOS, encode_json
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.telemetry.request_record import TOKENS, RequestRecord, RequestSummary

MOST_REQUESTS = 10_000


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
    added_ms: float | None  # our own part of `first_token_ms`; the ledger does not have it
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    cost_usd: float | None  # None if the cost of one attempt is unknown


class ExplainedRequest(RequestHead):
    """A request with its candidates, skipped, asked or not reached, in order."""

    candidates: list[JsonDict]


def explain(record: RequestRecord) -> ExplainedRequest | None:
    """Return the explanation of a request that is over; None while it is under way."""
    summary = record.summary
    return None if summary is None else {**_head(summary), "candidates": json.loads(summary.candidates_json)}


def _place_in(place: str) -> PlaceName:
    return {"place": place} if place else {}


def _head(summary: RequestSummary) -> RequestHead:
    provider, model = parts_of(summary.target or "")
    used = summary.used
    return {
        "request_id": summary.request_id,
        "x_request_id": summary.caller.request_id,
        "tenant": summary.caller.tenant,
        "agent": summary.caller.agent,
        "key": summary.caller.key_name,
        "door": summary.caller.door,
        "row": summary.row,
        "stream": summary.stream,
        "began_at": summary.began_at,
        "outcome": summary.outcome,
        "provider": provider or None,
        "model": model or None,
        **_place_in(place_of(summary.target or "")),
        "attempts": len(summary.attempts),
        "ms": summary.ms,
        "first_token_ms": summary.first_ms,
        "added_ms": summary.added_ms,
        "tokens_in": used["tokens_in"],
        "tokens_out": used["tokens_out"],
        "tokens_cached": used["tokens_cached"],
        "tokens_reasoning": used["tokens_reasoning"],
        "cost_usd": _dollars(used["cost"]),
    }


def from_ledger(row: JsonObject, attempts: list[JsonObject]) -> ExplainedRequest:
    """Return the explanation of a request from its row in the ledger and those of its attempts.

    A request that is still open, or that was lost, has its attempts for candidates.
    """
    costs = [a["cost"] for a in attempts]
    first = [a["first_ms"] for a in attempts if a["first_ms"] is not None]
    ended_at = row["ended_at"]
    tokens = {name: sum(a[name] for a in attempts) for name in TOKENS}
    candidates: list[JsonDict] = json.loads(row["trail"]) if row["trail"] else [_candidate(a) for a in attempts]
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
        **_place_in(next((c.get("place", "") for c in candidates if c["outcome"] == "ok"), "")),
        "attempts": len(attempts),
        "ms": None if ended_at is None else float(ended_at - row["began_at"]),
        "first_token_ms": first[-1] if first else None,
        "added_ms": None,
        "tokens_in": tokens["tokens_in"],
        "tokens_out": tokens["tokens_out"],
        "tokens_cached": tokens["tokens_cached"],
        "tokens_reasoning": tokens["tokens_reasoning"],
        "cost_usd": _dollars(None if None in costs else sum(costs)),
        "candidates": candidates,
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


class RecentRequests:
    """The explanations of one ingress replica's last requests.

    Each is kept as JSON, because the garbage collector does not look into bytes.
    """

    def __init__(self, most: int = MOST_REQUESTS):
        self._most = most
        self._explanations: OrderedDict[str, bytes] = OrderedDict()
        # The caller's id with each who may ask for it: our id of the newest. One caller's word hides no other's.
        self._ids: dict[tuple[str, str, str | None], str] = {}

    def add(self, summary: RequestSummary) -> None:
        head = encode_json(_head(summary))
        self._explanations[summary.request_id] = f'{head[:-1]},"candidates":{summary.candidates_json}}}'.encode()
        caller = summary.caller
        for place in _places(caller.request_id, caller.tenant, caller.key_name):
            self._ids[place] = summary.request_id
        if len(self._explanations) > self._most:
            _, oldest = self._explanations.popitem(last=False)
            self._forget(json.loads(oldest))

    def _forget(self, oldest: ExplainedRequest) -> None:
        for place in _places(oldest["x_request_id"], oldest["tenant"], oldest["key"]):
            if self._ids.get(place) == oldest["request_id"]:
                del self._ids[place]

    def find(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest | None:
        """Return the request with our id; None if it is not here, or the viewer may not see it."""
        data = self._explanations.get(name)
        if data is None:
            return None
        found: ExplainedRequest = json.loads(data)
        return found if may_see(viewer, found) else None

    def find_named(self, name: str, viewer: Viewer | None = None) -> ExplainedRequest | None:
        """Return the newest request with the caller's id that the viewer may see; None if it is not here."""
        ours = self._ids.get(_place_of(name, viewer))
        return None if ours is None else self.find(ours, viewer)


def _places(name: str | None, tenant: str | None, key: str | None) -> Iterator[tuple[str, str, str | None]]:
    """Yield under what a caller's id is found: by those who see all, by its tenant, and by its key."""
    if name is not None:
        yield name, "all", None
        if tenant is not None:
            yield name, "tenant", tenant
        if key is not None:
            yield name, "key", key


def _place_of(name: str, viewer: Viewer | None) -> tuple[str, str, str | None]:
    if viewer is None:
        return name, "all", None
    return (name, "key", viewer["key"]) if viewer["tenant"] is None else (name, "tenant", viewer["tenant"])


def may_see(viewer: Viewer | None, found: RequestHead) -> bool:
    """Return whether a viewer may see a request. Without a viewer every request may be seen."""
    if viewer is None:
        return True
    return found["key"] == viewer["key"] if viewer["tenant"] is None else found["tenant"] == viewer["tenant"]

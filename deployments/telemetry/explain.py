"""One request explained: what `/v1/requests/{id}` and `x-breakwater-explain` tell. Pure.

The same shape from an ingress's memory and from the ledger: who asked for what, how it ended, and for each
candidate in order why it was skipped, or how asking it went. No content of any message is in it.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from actors.ledger.rows import NANOS, encode_json
from deployments.telemetry.request_record import TOKENS, Ended, Trail

MOST = 10_000


def explained(trail: Trail) -> dict[str, Any] | None:
    """A request that is over; None of one that is not."""
    ended = trail.ended
    return None if ended is None else {**_head(ended), "candidates": json.loads(ended.text)}


def _head(ended: Ended) -> dict[str, Any]:
    provider, _, model = (ended.target or "").partition("/")
    return {
        "request_id": ended.request_id,
        "x_request_id": ended.caller.request_id,
        "tenant": ended.caller.tenant,
        "agent": ended.caller.agent,
        "key": ended.caller.key_name,
        "door": ended.caller.door,
        "row": ended.row,
        "stream": ended.stream,
        "began_at": ended.began_at,
        "outcome": ended.outcome,
        "provider": provider or None,
        "model": model or None,
        "attempts": len(ended.attempts),
        "ms": ended.ms,
        "first_token_ms": ended.first,
        "added_ms": ended.added,
        **{name: ended.used[name] for name in TOKENS},
        "cost_usd": _dollars(ended.used["cost"]),
    }


def from_ledger(row: Mapping[str, Any], attempts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of a request's rows in the ledger. What is still open, or was lost, has no candidates yet."""
    costs = [a["cost"] for a in attempts]
    first = [a["first_ms"] for a in attempts if a["first_ms"] is not None]
    ended = row["ended_at"]
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
        "ms": None if ended is None else float(ended - row["began_at"]),
        "first_token_ms": first[-1] if first else None,
        "added_ms": None,
        **{name: sum(a[name] for a in attempts) for name in TOKENS},
        "cost_usd": _dollars(None if None in costs else sum(costs)),
        "candidates": json.loads(row["trail"]) if row["trail"] else [_candidate(a) for a in attempts],
    }


def _candidate(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "provider": attempt["provider"],
        "model": attempt["model"],
        "outcome": attempt["kind"] or attempt["state"],
        "ms": attempt["ms"],
        "first_token_ms": attempt["first_ms"],
    }


def _dollars(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / NANOS


class Recent:
    """The last requests of one ingress replica, each as JSON: ten thousand small bytes cost no collector anything."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._names: dict[str, str] = {}  # the caller's id: ours

    def add(self, ended: Ended) -> None:
        head = encode_json(_head(ended))
        self._known[ended.request_id] = f'{head[:-1]},"candidates":{ended.text}}}'.encode()
        if ended.caller.request_id is not None:
            self._names[ended.caller.request_id] = ended.request_id
        if len(self._known) > self._most:
            _, gone = self._known.popitem(last=False)
            self._forget(json.loads(gone))

    def _forget(self, gone: Mapping[str, Any]) -> None:
        if self._names.get(gone["x_request_id"]) == gone["request_id"]:
            del self._names[gone["x_request_id"]]

    def find(self, name: str) -> dict[str, Any] | None:
        """By our id, or the newest by the caller's."""
        data = self._known.get(self._names.get(name, name))
        return None if data is None else dict(json.loads(data))

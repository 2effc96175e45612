"""Rows for tests: what an ingress would write, without one."""

from typing import Any

from actors.ledger.rows import SETTLED, AttemptRow, Record, RequestRow, day_of

NOON = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC


def request(name: str = "r1", **more: Any) -> RequestRow:
    return RequestRow(**{"request_id": name, "owner": "replica", "began_at": NOON, "tenant": "acme", **more})


def attempt(name: str = "r1", number: int = 1, **more: Any) -> AttemptRow:
    began = more.get("began_at", NOON)
    asked = more.pop("asked_at", began)  # when its request began
    known = {"owner": "replica", "provider": "openai", "model": "gpt", "tenant": "acme"}
    known |= {"request_id": name, "number": number, "began_at": began, "asked_at": asked, "day": day_of(asked)}
    return AttemptRow(**{**known, **more})


def opened(name: str = "r1", number: int = 1, **more: Any) -> Record:
    whose = {k: v for k, v in more.items() if k in ("owner", "tenant", "agent", "key_name", "began_at")}
    return Record(request(name, **whose), attempt(name, number, **more))


def settled(name: str = "r1", number: int = 1, *, last: bool = True, **more: Any) -> Record:
    whose = {k: v for k, v in more.items() if k in ("owner", "tenant", "agent", "key_name", "began_at")}
    ended = {"version": SETTLED, "state": "settled", "ended_at": more.get("ended_at", NOON + 500)}
    kind = more.get("kind", "ok")
    known = {"kind": kind, "content": kind == "ok", "tokens_in": 10, "tokens_out": 5, "counted": "provider"}
    known |= {"cost": 70, "ms": 500.0, "first_ms": 100.0}
    closing = {**ended, "outcome": kind, "attempts": number} if last else {}
    return Record(request(name, **whose, **closing), attempt(name, number, **{**known, **ended, **more}))

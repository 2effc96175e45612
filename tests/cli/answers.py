"""Answers of a server, as docs/cli.md shows them: one afternoon on which the first provider is out."""

from typing import Any

from actors.ledger.rollup import columns_of
from deployments.console.view import CircuitStatus, Status, TierStatus, Trend
from deployments.service.answers import Thresholds
from deployments.telemetry.explain import ExplainedRequest, RequestHead

AT = 1_793_455_200  # 2026-10-31 14:00 UTC
TREND: Trend = {"ok": [], "failed": [], "latency_ms": []}


def circuit(name: str, **more: Any) -> CircuitStatus:
    made: CircuitStatus = {
        "name": name,
        "model": name.partition("/")[2],
        "word": "healthy",
        "why": "takes calls",
        "state": "closed",
        "epoch": 0,
        "since_seconds": 5400.0,
        "retry_in_seconds": 0.0,
        "isolated_for_seconds": 0.0,
        "probing": False,
        "share": 1.0,
        "consecutive_failures": 0,
        "last_error": None,
        "calls": 118,
        "success_rate": 100.0,
        "avg_latency_ms": 912.4,
    }
    made.update(more)  # type: ignore[typeddict-item]
    return made


def tier(name: str, kind: str, *targets: CircuitStatus, **more: Any) -> TierStatus:
    made: TierStatus = {
        "name": name,
        "kind": kind,
        "word": targets[0]["word"] if targets else "left out",
        "why": targets[0]["why"] if targets else None,
        "available": bool(targets),
        "state": "closed",
        "isolated": False,
        "left_out": None,
        "last_error": None,
        "retry_in_seconds": None,
        "isolated_for_seconds": 0.0,
        "share": 1.0,
        "calls_per_second": 0.4,
        "trend": TREND,
        "targets": list(targets),
        "calls": targets[0]["calls"] if targets else 0,
        "success_rate": targets[0]["success_rate"] if targets else None,
        "avg_latency_ms": targets[0]["avg_latency_ms"] if targets else None,
    }
    made.update(more)  # type: ignore[typeddict-item]
    return made


OPEN = circuit(
    "aws_bedrock/haiku-4.5",
    word="open",
    why="its calls failed (3 in a row)",
    state="open",
    since_seconds=17.2,
    retry_in_seconds=43.1,
    calls=9,
    success_rate=66.7,
    avg_latency_ms=1204.0,
    last_error={"kind": "server_error", "status": 500, "message": "The system encountered an unexpected error."},
)
STATUS: Status = {
    "at": float(AT),
    "mode": "aws_first",
    "health": "degraded",
    "why": "openai answers first",
    "breaker_actor": "reachable",
    "ledger": {
        "store": "up",
        "journal": "disk",
        "lag_rows": 0,
        "lag_seconds": 0.0,
        "dropped": 0,
        "adopted": 0,
        "refused": 0,
        "missing": 0,
    },
    "commands": True,
    "slots": 60,
    "slot_seconds": 5.0,
    "tiers": [
        tier("aws_bedrock", "bedrock", OPEN, calls_per_second=0.0),
        tier("openai", "openai", circuit("openai/gpt-5.4-mini")),
        tier("google", "google", left_out="GOOGLE_API_KEY is not set", calls_per_second=0.0),
    ],
    "rows": [
        {
            "name": "default",
            "kind": "chat",
            "health": "degraded",
            "first": "openai/gpt-5.4-mini",
            "alone": True,
            "order": [{"target": "openai/gpt-5.4-mini", "note": None}],
            "skipped": [
                {"target": "aws_bedrock/haiku-4.5", "why": "open", "retry_in_seconds": 43.1},
                {"target": "google/gemini-3-flash", "why": "GOOGLE_API_KEY is not set", "retry_in_seconds": None},
            ],
        }
    ],
}


def head(number: int, **more: Any) -> dict[str, Any]:
    """One request of the list, which is contract of `GET /v1/requests`."""
    made: RequestHead = {
        "request_id": f"{number:08x}",
        "x_request_id": None,
        "tenant": "acme",
        "agent": "support",
        "key": "alice",
        "door": "http",
        "row": "default",
        "stream": True,
        "began_at": AT * 1000 - 1000 * number,
        "outcome": "ok",
        "provider": "openai",
        "model": "gpt-5.4-mini",
        "attempts": 1,
        "ms": 2310.0,
        "first_token_ms": 412.6,
        "added_ms": 1.9,
        "tokens_in": 812,
        "tokens_out": 164,
        "tokens_cached": 0,
        "tokens_reasoning": 0,
        "cost_usd": 0.001347,
    }
    return {**made, "failed_over": False, **more}


UNANSWERED: dict[str, Any] = {
    **dict.fromkeys(("provider", "model", "first_token_ms", "added_ms")),
    **{"tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0},
}
REQUESTS = [
    head(1),
    head(2, attempts=2, failed_over=True, ms=3904.0, first_token_ms=1820.0, cost_usd=0.0021),
    head(3, **UNANSWERED, outcome="deadline", attempts=2, ms=20_000.0, tenant="globex", agent=None),
    head(4, **UNANSWERED, outcome="open", attempts=1, ms=None),
]
EXPLAINED: ExplainedRequest = {
    **head(2, attempts=2, ms=3904.0, first_token_ms=1820.0, cost_usd=0.0021, x_request_id="mine"),  # type: ignore[typeddict-item]
    "candidates": [
        {
            **{"provider": "anthropic", "model": "claude-haiku-4.5", "outcome": "skipped: open", "at_ms": 0.4},
            **{"state": "open", "epoch": 4, "since_seconds": 17.2, "retry_in_seconds": 43.1},
        },
        {
            **{"provider": "aws_bedrock", "model": "haiku-4.5", "outcome": "server_error", "status": 500},
            **{"at_ms": 0.4, "ms": 1204.0, "message": "The system encountered an unexpected error."},
            **{"verdict": "failed_start", "probe": False, "epoch": 0, "first_token_ms": None},
            **{"upstream_connect_ms": 180.0, "upstream_ms": 1203.1},
        },
        {
            **{"provider": "openai", "model": "gpt-5.4-mini", "outcome": "ok", "status": None, "at_ms": 1204.9},
            **{"ms": 2699.0, "verdict": "ok", "probe": False, "epoch": 2, "first_token_ms": 614.2},
            **{"upstream_first_ms": 613.0, "upstream_ms": 2698.0},
        },
        {"provider": "local", "model": "smollm2-135m", "outcome": "not reached"},
    ],
}

_DAY = {
    **{"requests": 1200, "answered": 1188, "attempts": 1261, "answers": 1188, "failures": 61, "cancelled": 12},
    **{"lost": 0, "open": 0, "tokens_in": 974_400, "tokens_out": 196_800, "tokens_cached": 81_200},
    **{"tokens_reasoning": 0, "estimated": 12, "cost_nanos": 1_616_400_000, "unknown_cost": 0, "cost_usd": 1.6164},
    **{"abandoned_cost_usd": 0.0731, "avg_latency_ms": 2291.4, "avg_first_token_ms": 430.2},
}
USAGE = {
    "object": "list",
    "data": [
        {"tenant": tenant, "day": "2026-10-31", **{n: _DAY[n] for n in columns_of({}, []) if n in _DAY}}
        for tenant in ("acme", "globex")
    ],
}
LIMITS = {
    "object": "list",
    "data": [
        {
            **{"subject": "tenant:acme", "limit": "monthly_cost", "period": "2026-10"},
            **{"most": 100.0, "used": 84.2, "share": 0.842},
        },
        {
            **{"subject": "key:alice", "limit": "requests_per_minute", "period": "2026-10-31T14:00:00Z"},
            **{"most": 600, "used": 21, "share": 0.035},
        },
    ],
}


def _span(seconds: int, slots: int, worse: int) -> dict[str, Any]:
    """Slots of one request every three seconds, of which the last so many have a provider that is out."""
    usual = seconds // 3
    made = []
    for n in range(slots):
        out, requests = n >= slots - worse, usual + n % 7
        made.append(
            {
                **{"at": AT - seconds * (slots - n), "requests": requests, "answered": requests - 2 * out},
                **{"failed_over": 12 * out, "attempts": requests + 14 * out, "failures": 16 * out},
                **{"tokens_in": 812 * requests, "tokens_out": 164 * requests},
                **{"cost_usd": 0.001347 * requests, "abandoned_cost_usd": 0.006 * out},
            }
        )
    return {
        "slot_seconds": seconds,
        "slots": made,
        "totals": {name: sum(slot[name] for slot in made) for name in made[0] if name != "at"},
        "first_token_ms": {"p50": 398.0, "p95": 1630.0, "count": 1411},
        "added_ms": {"p50": 1.8, "p95": 5.2, "count": 1411},
    }


TRAFFIC = {"at": AT, "hour": _span(60, 60, 5), "day": _span(1800, 48, 1)}
ALERTS: dict[str, Any] = {
    "source": "prometheus",
    "trouble": None,
    "data": [
        {
            "name": "BreakwaterProviderOpen",
            "severity": "warning",
            "since": AT - 300,
            "summary": "aws_bedrock is open",
            "runbook": "docs/operations.md#breakwaterprovideropen",
        }
    ],
}
THRESHOLDS: Thresholds = {
    **{"failure_threshold": 5, "recovery_timeout": 60.0, "recovery_cap": 300.0, "window": 60.0},  # type: ignore[typeddict-item]
    "overrides": {"failure_threshold": {"value": 5, "configured": 3}},
}
BREAKER = {
    **THRESHOLDS,
    "changes": [
        {"at": AT - 120, "by": "ann@laptop", "what": "threshold", "detail": "failure_threshold=5"},
        {"at": AT - 900, "by": "ann@laptop", "what": "isolate", "detail": "google for 3600 s"},
    ],
}
SETUP = {
    "mode": "aws_first",
    "providers": [
        {
            **{"name": "aws_bedrock", "kind": "bedrock", "left_out": None},
            "credential": {"found": True, "source": "the AWS profile prod"},
            "places": [
                {"name": "us", "left_out": None, "credential": "the AWS profile prod"},
                {"name": "eu", "left_out": "AWS_EU_REGION is not set", "credential": None},
            ],
            "models": [
                {
                    **{"target": "aws_bedrock/haiku-4.5", "model": "haiku-4.5", "rows": ["default", "fast"]},
                    "price": {"input": 1.0, "output": 5.0},
                }
            ],
        },
        {
            **{"name": "openai", "kind": "openai", "left_out": None, "places": []},
            "credential": {"found": True, "source": "OPENAI_API_KEY"},
            "models": [
                {
                    **{"target": "openai/gpt-5.4-mini", "model": "gpt-5.4-mini", "rows": ["default"]},
                    "price": {"input": 0.75, "output": 4.5},
                }
            ],
        },
        {
            **{"name": "google", "kind": "google", "left_out": "GOOGLE_API_KEY is not set", "places": []},
            "credential": {"found": False, "source": "GOOGLE_API_KEY"},
            "models": [
                {
                    **{"target": "google/gemini-3-flash", "model": "gemini-3-flash", "rows": ["default"]},
                    "price": None,
                }
            ],
        },
    ],
    "breaker": {"failure_threshold": 5, "recovery_timeout": 60.0},
}
OPENAI_HEALTH = {
    **{"available": False, "state": "closed", "isolated": True, "left_out": None, "success_rate": 100.0},
    **{"avg_latency_ms": 912.4, "consecutive_failures": 0, "total_requests": 118, "last_error": None},
    "targets": {"openai/gpt-5.4-mini": {"state": "closed", "isolated": True}},
}

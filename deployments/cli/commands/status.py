"""Who answers now? The status page's data, as text."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from deployments.cli.server.errors import BAD_NEWS
from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import NOTHING, instant, millis, number, percent, seconds, share, style_of

_TIER = ("tier", "kind", "state", "calls", "ok", "latency", "calls/s", "why")
_CIRCUIT = ("circuit", "state", "since", "next", "share", "calls", "ok", "last error")
_ROW = ("row", "kind", "health", "asked in this order", "passed over")


@click.command
@asks
def status(asking: Asking) -> int:
    """Who answers now: tiers, circuits and rows. Exit code 1 if a row has no provider left (unhealthy)."""
    answer = asking.server.get("/v1/status")
    if not asking.printed(answer):
        _print(answer.data)
    return BAD_NEWS if answer.data["health"] == "unhealthy" else 0


def _print(told: Mapping[str, Any]) -> None:
    say(f"{told['health']}: {told['why']}", style_of(told["health"]))
    actors = f"breaker actor {told['breaker_actor']}, {_ledger(told['ledger'])}"
    say(f"{instant(told['at'])} UTC, mode {told['mode']}, {actors}")
    say()
    tiers = [_tier(tier) for tier in told["tiers"]]
    table(_TIER, tiers, right=_TIER[3:7], prose=("why",), extra=("kind", "calls/s", "latency"))
    if circuits := [_circuit(circuit) for tier in told["tiers"] for circuit in tier["targets"]]:
        say()
        table(_CIRCUIT, circuits, right=_CIRCUIT[2:7], prose=("last error",), extra=("share", "calls", "since"))
    say()
    table(_ROW, [_row(row) for row in told["rows"]], prose=_ROW[3:], extra=("kind",))


def _ledger(health: Mapping[str, Any] | None) -> str:
    if health is None:
        return "no ledger"
    behind = f"{number(health['lag_rows'])} rows behind" if health["lag_rows"] else "no row behind"
    return f"ledger {health['store']}, {behind}"


def _tier(tier: Mapping[str, Any]) -> list[object]:
    return [
        *(tier["name"], tier["kind"], Cell(tier["word"], style_of(tier["word"])), number(tier["calls"])),
        *(percent(tier["success_rate"]), millis(tier["avg_latency_ms"]), number(tier["calls_per_second"])),
        tier["left_out"] or tier["why"] or NOTHING,
    ]


def _circuit(circuit: Mapping[str, Any]) -> list[object]:
    return [
        *(circuit["name"], Cell(circuit["word"], style_of(circuit["word"])), seconds(circuit["since_seconds"])),
        *(_next(circuit), share(circuit["share"]), number(circuit["calls"]), percent(circuit["success_rate"])),
        _error(circuit["last_error"]),
    ]


def _next(circuit: Mapping[str, Any]) -> str:
    """Return when a circuit will let calls through again."""
    left = circuit["isolated_for_seconds"] if circuit["word"] == "isolated" else circuit["retry_in_seconds"]
    return seconds(left) if left else NOTHING


def _error(error: Mapping[str, Any] | None) -> str:
    if error is None:
        return NOTHING
    parts = [error["kind"], *(str(error[name]) for name in ("status", "code") if error.get(name) is not None)]
    told = " ".join(parts)
    return f"{told}: {error['message']}" if error.get("message") else told


def _row(row: Mapping[str, Any]) -> list[object]:
    order = [f"{each['target']} ({each['note']})" if each["note"] else each["target"] for each in row["order"]]
    return [
        *(row["name"], row["kind"], Cell(row["health"], style_of(row["health"]))),
        " > ".join(order) or NOTHING,
        "; ".join(_skipped(row)) or NOTHING,
    ]


def _skipped(row: Mapping[str, Any]) -> Iterator[str]:
    for each in row["skipped"]:
        left = each["retry_in_seconds"]
        yield f"{each['target']} ({each['why']}{'' if left is None else f', {seconds(left)}'})"

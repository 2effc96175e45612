"""How much goes through, and how well?"""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import say, table
from deployments.cli.terminal.text import NOTHING, instant, millis, money, number, percent, seconds, sparkline

_COUNTS = {
    "requests": "requests",
    "answered": "answered",
    "failed_over": "failed over",
    "attempts": "attempts",
    "failures": "failed attempts",
    "tokens_in": "tokens in",
    "tokens_out": "tokens out",
}


@click.command
@click.option("--slots", type=click.Choice(["hour", "day"]), help="Print each slot of the last hour or day instead.")
@asks
def traffic(asking: Asking, slots: str | None) -> None:
    """How much went through in the last hour and day, and how well."""
    answer = asking.server.get("/v1/traffic")
    if asking.printed(answer):
        return
    if slots is not None:
        _print_slots(answer.data[slots]["slots"])
    else:
        _print(answer.data)


def _print(told: Mapping[str, Any]) -> None:
    spans = [told["hour"], told["day"]]
    totals = [span["totals"] for span in spans]
    rows: list[list[object]] = [[word, *(number(of[name]) for of in totals)] for name, word in _COUNTS.items()]
    rows.insert(2, ["share answered", *map(_answered, totals)])
    rows.append(["cost", *(money(of["cost_usd"]) for of in totals)])
    rows.append(["of that abandoned", *(money(of["abandoned_cost_usd"]) for of in totals)])
    for name, word in (("first_token_ms", "first token"), ("added_ms", "our own part")):
        for percentile in ("p50", "p95"):
            rows.append([f"{word}, {percentile}", *(millis(span[name][percentile]) for span in spans)])
    table(("", "last hour", "last day"), rows, right=("last hour", "last day"))
    for name, span in zip(("hour", "day"), spans, strict=True):
        say()
        say(f"the last {name}, a sign for each {seconds(span['slot_seconds'])}, until {instant(told['at'])} UTC")
        for word, values in _series(span["slots"]):
            say(f"  {word:<12}{sparkline(values)}  {number(max(values, default=0))} at most")


def _answered(totals: Mapping[str, Any]) -> str:
    return percent(100 * totals["answered"] / totals["requests"]) if totals["requests"] else NOTHING


def _series(slots: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float]]]:
    return [
        ("requests", [slot["requests"] for slot in slots]),
        ("no answer", [max(0, slot["requests"] - slot["answered"]) for slot in slots]),
        ("failed over", [slot["failed_over"] for slot in slots]),
    ]


def _print_slots(slots: Sequence[Mapping[str, Any]]) -> None:
    head = ("from (UTC)", *_COUNTS.values(), "cost", "abandoned")
    rows = [
        [
            instant(slot["at"]),
            *(number(slot[name]) for name in _COUNTS),
            *(money(slot[name]) for name in ("cost_usd", "abandoned_cost_usd")),
        ]
        for slot in slots
    ]
    table(head, rows, right=head[1:])

"""What did one request go through?"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import click

from actors.breaker.outcomes import ENDINGS
from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal import waterfall
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import instant, millis, money, number, seconds, style_of

_FAILED = "red"


@click.command
@click.argument("request_id", metavar="ID")
@asks
def explain(asking: Asking, request_id: str) -> None:
    """One request: who was asked or skipped, why, and how long it took. ID is ours, or your x-request-id."""
    answer = asking.server.get(f"/v1/requests/{quote(request_id, safe='')}")
    if not asking.printed(answer):
        _print(answer.data)


def _print(told: Mapping[str, Any]) -> None:
    for line in _head(told):
        say(line)
    candidates = told["candidates"]
    scale = waterfall.scale_of(candidates, told["ms"])
    say()
    rows = [
        [number, _name(c), Cell(c["outcome"], style_of(c["outcome"]) or _style(c)), waterfall.bar(c, scale)]
        for number, c in enumerate(candidates, 1)
    ]
    end = millis(scale)
    ruler = "0" + end.rjust(waterfall.WIDTH - 1)
    table(("", "target", "outcome", ruler), rows)
    say(waterfall.LEGEND)
    say()
    for number_, candidate in enumerate(candidates, 1):
        say(f"{number_}. {_name(candidate)}: {'; '.join(_details(candidate))}")


def _head(told: Mapping[str, Any]) -> Iterator[str]:
    own = f" ({told['x_request_id']})" if told["x_request_id"] else ""
    by = f", answered by {_name(told)}" if told["provider"] else ""
    again = ", after a failover" if told.get("failed_over") else ""
    yield f"{told['request_id']}{own}: {told['outcome']}{by}{again}"
    began = instant(told["began_at"] / 1000)
    kind = "a stream" if told["stream"] else "a whole answer"
    yield f"row {told['row']}, by {told['door']}, {kind}, began {began}.{told['began_at'] % 1000:03d} UTC"
    whose = [f"{name} {told[name]}" for name in ("tenant", "agent", "key") if told[name]]
    yield ", ".join(whose) or "without tenant, agent or key"
    times = f"whole {millis(told['ms'])}, first token {millis(told['first_token_ms'])}"
    yield f"{times}, our own part {millis(told['added_ms'])}"
    cached, reasoned = number(told["tokens_cached"]), number(told["tokens_reasoning"])
    taken, given = number(told["tokens_in"]), number(told["tokens_out"])
    tokens = f"{taken} tokens in ({cached} cached), {given} out ({reasoned} reasoning)"
    yield f"{tokens}, cost {money(told['cost_usd'])}"


def _name(told: Mapping[str, Any]) -> str:
    place = f"#{told['place']}" if told.get("place") else ""
    return f"{told['provider']}{place}/{told['model']}"


def _style(candidate: Mapping[str, Any]) -> str:
    return _FAILED if waterfall.span_of(candidate) is not None else ""


def _details(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is known of a candidate, each as a part of one sentence."""
    outcome = told["outcome"]
    ending = ENDINGS.get(outcome)
    status = f" {told['status']}" if told.get("status") else ""
    yield f"{outcome}{status}" + (f" ({ending.why})" if ending is not None and outcome != "ok" else "")
    if told.get("ms") is not None:
        first = told.get("first_token_ms")
        yield f"took {millis(told['ms'])}" + ("" if first is None else f", first token {millis(first)}")
    if told.get("state"):
        since = seconds(told.get("since_seconds"))
        yield f"its circuit was {str(told['state']).replace('_', ' ')} for {since}"
    if told.get("retry_in_seconds") is not None:
        yield f"next try in {seconds(told['retry_in_seconds'])}"
    if told.get("verdict") and outcome != "ok":
        yield f"verdict {told['verdict']}"
    yield from _marks(told)
    if told.get("param"):
        yield f"it refused the field {told['param']}"
    if told.get("upstream_model"):
        yield f"it calls its model {told['upstream_model']}"
    if told.get("message"):
        yield f"it said: {told['message']}"


def _marks(told: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "probe": "a probe of its circuit",
        "slow": "it stood behind others, because it is slow now",
        "session": "it had the conversation's prompt in its cache",
        "upstream_streamed": "asked for as a stream",
    }
    yield from (said for name, said in words.items() if told.get(name))
    if told.get("hedge"):
        yield f"a second leg, which {told['hedge']}"
    if told.get("seam"):
        yield f"it went on behind an answer that broke off ({told['seam']})"

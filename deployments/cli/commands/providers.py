"""What is set up: which providers, with which credentials, places, models and prices?"""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import NOTHING, number, seconds


@click.command
@asks
def providers(asking: Asking) -> None:
    """Which providers are set up: credentials that were found, places, models and their prices."""
    answer = asking.server.get("/v1/setup")
    if asking.printed(answer):
        return
    told = answer.data
    say(f"mode {told['mode']}")
    say()
    head = ("provider", "kind", "called", "credential", "places", "why not")
    table(head, [_provider(each) for each in told["providers"]], prose=head[3:])
    say()
    rows = [[model["target"], *_model(model)] for each in told["providers"] for model in each["models"]]
    table(("target", "rows", "price of a million tokens"), rows, prose=("rows",))
    say()
    say("Circuits: " + ", ".join(_thresholds(told["breaker"])))


def _provider(told: Mapping[str, Any]) -> list[object]:
    out = told["left_out"]
    return [
        *(told["name"], told["kind"], Cell("no", "yellow") if out else Cell("yes", "green")),
        _credential(told["credential"]),
        ", ".join(map(_place, told["places"])) or NOTHING,
        out or NOTHING,
    ]


def _credential(credential: Mapping[str, Any]) -> str:
    source = credential["source"]
    return source or NOTHING if credential["found"] else f"not found: {source}" if source else "not found"


def _place(place: Mapping[str, Any]) -> str:
    out = place["left_out"]
    return f"{place['name']} ({out})" if out else place["name"]


def _model(model: Mapping[str, Any]) -> list[object]:
    return [", ".join(model["rows"]) or NOTHING, _price(model["price"])]


def _price(price: Mapping[str, Any] | None) -> str:
    """Return what is known of a price, as `input $2, output $8`."""
    if price is None:
        return "unknown"
    if not any(price.values()):
        return "free"
    return ", ".join(f"{name} ${value:g}" for name, value in price.items())


def _thresholds(breaker: Mapping[str, Any]) -> Iterator[str]:
    for name, words in (
        ("failure_threshold", "open after {} failures in a row"),
        ("recovery_timeout", "probed after {}"),
    ):
        if (value := breaker.get(name)) is not None:
            yield words.format(seconds(value) if name == "recovery_timeout" else number(value))

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
    table(("target", "rows", "price"), rows, prose=("rows", "price"))
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
    return f"{credential['source']}" if credential["found"] else f"not found: {credential['source']}"


def _place(place: object) -> str:
    """Return the name of a place, which may be told with more."""
    if not isinstance(place, Mapping):
        return str(place)
    out = place.get("left_out")
    return f"{place.get('name')} ({out})" if out else str(place.get("name"))


def _model(model: Mapping[str, Any]) -> list[object]:
    return [", ".join(map(str, model["rows"])) or NOTHING, _price(model["price"])]


def _price(price: object) -> str:
    """Return what is known of a price, as `input $2, output $8`."""
    if price is None:
        return "unknown"
    if not isinstance(price, Mapping):
        return str(price)
    return ", ".join(f"{name} {_amount(value)}" for name, value in price.items() if value is not None) or "unknown"


def _amount(value: object) -> str:
    return f"${value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _thresholds(breaker: Mapping[str, Any]) -> Iterator[str]:
    for name, words in (
        ("failure_threshold", "open after {} failures in a row"),
        ("recovery_timeout", "probed after {}"),
    ):
        if (value := breaker.get(name)) is not None:
            yield words.format(seconds(value) if name == "recovery_timeout" else number(value))

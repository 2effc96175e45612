"""Which thresholds are in force, who has set them, and how are they set?"""

from collections.abc import Mapping
from typing import Any

import click

from deployments.cli.server.names import complete_threshold
from deployments.cli.server.options import Asking, changes
from deployments.cli.terminal.printing import say, table
from deployments.cli.terminal.text import NOTHING, since


@click.command
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=NUMBER", shell_complete=complete_threshold,
    help="Set a threshold over the configuration's; may be repeated.",
)  # fmt: skip
@click.option(
    "--unset", "names", multiple=True, metavar="NAME", shell_complete=complete_threshold,
    help="Take that back; may be repeated.",
)  # fmt: skip
@changes
def thresholds(asking: Asking, settings: tuple[str, ...], names: tuple[str, ...]) -> None:
    """The breaker's thresholds in force, or set them while it runs."""
    wanted = {**dict(map(_setting, settings)), **dict.fromkeys(names)}
    if both := {setting.partition("=")[0].strip() for setting in settings} & set(names):
        raise click.UsageError(f"{min(both)} can't be set and unset at once.")
    server = asking.server
    answer = server.change("PATCH", "/v1/breaker", {}, wanted) if wanted else server.get("/v1/breaker")
    if not asking.printed(answer):
        _print(answer.data)


def _setting(text: str) -> tuple[str, float]:
    name, equals, told = text.partition("=")
    try:
        value = float(told)
    except ValueError:
        value = float("nan")
    if not name.strip() or not equals or value - value != 0:  # neither a number nor infinite
        raise click.UsageError(f"--set needs NAME=NUMBER, as failure_threshold=5, and not {text!r}.")
    return name.strip(), int(value) if value.is_integer() else value


def _print(told: Mapping[str, Any]) -> None:
    overrides = told["overrides"]
    rows = [
        [name, f"{value:g}", f"{_configured(overrides[name])}" if name in overrides else NOTHING]
        for name, value in told.items()
        if isinstance(value, int | float)
    ]
    table(("threshold", "in force", "instead of"), rows, right=("in force", "instead of"))
    if changed := told.get("changes"):
        say()
        rows = [[since(each["at"]), each["by"] or NOTHING, each["what"], _detail(each["detail"])] for each in changed]
        table(("changed at (UTC)", "by", "what", "detail"), rows, prose=("detail",))


def _configured(override: Mapping[str, Any]) -> str:
    return "unknown" if (value := override["configured"]) is None else f"{value:g}"


def _detail(detail: object) -> str:
    if isinstance(detail, Mapping):
        return ", ".join(f"{name}={value}" for name, value in detail.items()) or NOTHING
    return NOTHING if detail is None else str(detail)

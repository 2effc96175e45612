"""Take a provider out, put it back, have it tried, forget what is known of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import click

from deployments.cli.server.names import complete_provider
from deployments.cli.server.options import Asking, Span, changes
from deployments.cli.terminal.printing import say
from deployments.cli.terminal.text import seconds

_HOUR = timedelta(hours=1)
named = click.argument("name", shell_complete=complete_provider)


@click.command
@named
@click.option("--for", "span", type=Span(), default="1h", metavar="SPAN", help="For how long, as 30m or 2d; else 1h.")
@changes
def isolate(asking: Asking, name: str, span: timedelta) -> None:
    """Take a provider out, or one place of it (as openai#spare). It comes back by itself after the time."""
    if span <= timedelta():
        raise click.UsageError("--for needs a span that is longer than nothing.")
    told = f"{span.total_seconds():.0f}"
    _command(asking, name, "isolate", f"is isolated for {seconds(span.total_seconds())}", {"seconds": told})


@click.command
@named
@changes
def restore(asking: Asking, name: str) -> None:
    """Put a provider back that was isolated."""
    _command(asking, name, "restore", "is restored")


@click.command
@named
@changes
def recover(asking: Asking, name: str) -> None:
    """Have a provider tried now, instead of when its circuits are due."""
    _command(asking, name, "recover", "is tried by its next requests")


@click.command
@named
@changes
def reset(asking: Asking, name: str) -> None:
    """Forget what is known of a provider: its circuits begin anew."""
    _command(asking, name, "reset", "begins anew")


def _command(asking: Asking, name: str, verb: str, done: str, params: Mapping[str, str] | None = None) -> None:
    answer = asking.server.change("POST", f"/v1/providers/{quote(name, safe='')}/{verb}", params or {})
    if not asking.printed(answer):
        say(f"{name} {done}. {_now(answer.data)}")


def _now(health: Mapping[str, Any]) -> str:
    circuits = [f"{target} {_state(each)}" for target, each in health["targets"].items()]
    return f"Now: {', '.join(circuits)}." if circuits else "No circuit of it is known yet."


def _state(circuit: Mapping[str, Any]) -> str:
    return "isolated" if circuit["isolated"] else circuit["state"].replace("_", " ")

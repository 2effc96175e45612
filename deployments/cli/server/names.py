"""Names that the shell completes, as the server knows them. A server that can't be asked completes nothing."""

from typing import Any

import click
from click.shell_completion import CompletionItem

from deployments.cli.server.errors import CliError
from deployments.cli.server.options import asking_of
from deployments.cli.terminal.text import clean

SECONDS = 2.0  # who presses a key does not wait for longer


def complete_provider(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    told = _ask(ctx, "/v1/status")
    if told is None:
        return []
    targets = [target["name"] for tier in told["tiers"] for target in tier["targets"]]
    names = [tier["name"] for tier in told["tiers"]] + [t.partition("/")[0] for t in targets]
    return [CompletionItem(name) for name in dict.fromkeys(map(clean, names)) if name.startswith(incomplete)]


def complete_threshold(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    told = _ask(ctx, "/v1/breaker") or {}
    end = "=" if param.name == "settings" else ""
    names = [name for name, value in told.items() if isinstance(value, int | float)]
    return [CompletionItem(name + end) for name in map(clean, names) if name.startswith(incomplete)]


def _ask(ctx: click.Context, path: str) -> Any:
    given = {**ctx.params, "timeout": SECONDS}
    try:
        with ctx.scope(cleanup=False):
            return asking_of(given).server.get(path).data
    except (CliError, click.ClickException):
        return None

"""Who has how much left of a limit?"""

from collections.abc import Mapping
from typing import Any

import click

from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import money, number, share

_NEAR = 0.8


@click.command
@asks
def limits(asking: Asking) -> None:
    """What tenants and keys have used of their limits, this minute and this month (UTC)."""
    answer = asking.server.get("/v1/limits")
    if asking.printed(answer):
        return None
    if not answer.data["data"]:
        return say("Nobody has a limit.")
    head = ("subject", "limit", "period", "used", "of", "share")
    return table(head, [_row(limit) for limit in answer.data["data"]], right=head[3:])


def _row(limit: Mapping[str, Any]) -> list[object]:
    shown = money if limit["limit"] == "monthly_cost" else number
    used = limit["share"]
    style = "red" if used >= 1 else "yellow" if used >= _NEAR else ""
    return [
        *(limit["subject"].replace(":", " ", 1), limit["limit"].replace("_", " "), limit["period"]),
        *(shown(limit["used"]), shown(limit["most"]), Cell(share(used), style)),
    ]

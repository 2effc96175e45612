"""Which alerts fire?"""

import click

from deployments.cli.server.errors import BAD_NEWS
from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import NOTHING, since, style_of


@click.command
@asks
def alerts(asking: Asking) -> int:
    """The alerts that fire now. Exit code 1 if one does, or if Prometheus can't be asked."""
    answer = asking.server.get("/v1/alerts")
    told = answer.data
    if not asking.printed(answer):
        if told["trouble"]:
            say(f"Prometheus can't be asked: {told['trouble']}", "red")
        elif told["source"] is None:
            say("The server knows no Prometheus (RAY_PROMETHEUS_HOST), so no alert can be shown.")
        elif not told["data"]:
            say("No alert fires.", "green")
        if told["data"]:
            rows = [
                [
                    _severity(a["severity"]),
                    a["name"],
                    since(a["since"]),
                    a["summary"] or NOTHING,
                    a["runbook"] or NOTHING,
                ]
                for a in told["data"]
            ]
            head = ("severity", "alert", "since (UTC)", "summary", "what to do")
            table(head, rows, prose=("summary",), extra=("since (UTC)",))
    return BAD_NEWS if told["trouble"] or told["data"] else 0


def _severity(word: str | None) -> Cell:
    return Cell(word or NOTHING, style_of(word or ""))

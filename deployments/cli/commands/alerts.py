"""Which alerts fire?"""

import click

from deployments.cli.server.errors import BAD_NEWS
from deployments.cli.server.options import Asking, asks
from deployments.cli.terminal.printing import Cell, say, table
from deployments.cli.terminal.text import since, style_of


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
            say("The configuration names no Prometheus, so no alert can be shown.")
        elif not told["data"]:
            say("No alert fires.", "green")
        if told["data"]:
            rows = [
                [Cell(a["severity"], style_of(a["severity"])), a["name"], since(a["since"]), a["summary"], a["runbook"]]
                for a in told["data"]
            ]
            head = ("severity", "alert", "since (UTC)", "summary", "what to do")
            table(head, rows, prose=("summary",), extra=("since (UTC)",))
    return BAD_NEWS if told["trouble"] or told["data"] else 0

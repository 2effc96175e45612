"""Which requests were there? A list, the newest first, or those that come, as they come."""

from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from actors.breaker.outcomes import ENDINGS
from deployments.cli.commands.follow import follow
from deployments.cli.server.options import Asking, Instant, Milliseconds, asks
from deployments.cli.terminal.printing import say, table, tell
from deployments.cli.terminal.request_lines import EXTRA, HEAD, RIGHT, cells_of
from deployments.cli.terminal.text import instant

MOST_OF_A_PAGE, MOST_PAGES = 200, 20
LIST, FOLLOWED = 50, 10  # how many are printed, if no other number is given


def complete_outcome(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    words = ("ok", "failed", *(kind for kind in ENDINGS if kind != "ok"))
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


@click.command
@click.option(
    "--outcome", shell_complete=complete_outcome, help="ok, failed (not ok and not cancelled), or an exact one."
)
@click.option("--provider", help="Answered by this provider.")
@click.option("--model", help="Answered by this model of a provider.")
@click.option("--tenant", help="Of this tenant.")
@click.option("--agent", help="Of this agent.")
@click.option("--key-name", "key", help="With the API key of this name.")
@click.option("--row", help="Of this model row.")
@click.option("--failed-over", is_flag=True, help="Only those that were not answered by the first candidate.")
@click.option("--slower-than", type=Milliseconds(), metavar="TIME", help="Only those that took longer: 800ms, 1.5s.")
@click.option("--since", type=Instant(), metavar="WHEN", help="7d (from midnight UTC), 12h, or an ISO date.")
@click.option("--until", type=Instant(), metavar="WHEN", help="The same; it is not included.")
@click.option("--before", metavar="CURSOR", help="Go on where an earlier list has stopped.")
@click.option("--limit", type=click.IntRange(1, 10_000), help=f"How many; else {LIST}, and {FOLLOWED} with --follow.")
@click.option(
    "-f", "--follow", "follows", is_flag=True, help="Go on, and print new ones when they are over. Ctrl-C ends it."
)
@asks
def requests(
    asking: Asking,
    /,
    failed_over: bool,
    slower_than: float | None,
    before: str | None,
    limit: int | None,
    follows: bool,
    **filters: str | None,
) -> None:
    """Requests, the newest first, by filters; --follow prints new ones as they end."""
    params = {name: value for name, value in filters.items() if value}
    if failed_over:
        params["failed_over"] = "true"
    if slower_than is not None:
        params["slower_than_ms"] = f"{slower_than:g}"
    if follows:
        if before or filters["until"]:
            raise click.UsageError("--follow goes on from now: it takes no --before and no --until.")
        return follow(asking, params, limit or FOLLOWED)
    pages = Pages(asking, params, before, limit or LIST)
    if asking.as_json:
        for _ in pages.read():
            pass
    else:
        rows = [cells_of(head) for page in pages.read() for head in page["data"]]
        if rows:
            table(HEAD, rows, RIGHT, extra=EXTRA)
        else:
            say("No such request.")
    if pages.from_memory and not asking.as_json:
        tell("The ledger is away or there is none: these are the last requests of one replica.")
    if pages.cursor is not None and not asking.as_json:
        tell(f"Looked back to {instant(pages.looked_back_to)} UTC. Older ones: --before {pages.cursor}")
    return None


class Pages:
    """The pages of one list. One that found nothing may have older ones behind it, so there is an end to asking."""

    def __init__(self, asking: Asking, params: Mapping[str, str], before: str | None, limit: int):
        self._asking, self._params, self._left = asking, params, limit
        self.cursor = before
        self.looked_back_to: float | None = None  # seconds since the epoch
        self.from_memory = False

    def read(self) -> Iterator[Mapping[str, Any]]:
        for _ in range(MOST_PAGES + self._left // MOST_OF_A_PAGE):
            params = {**self._params, "limit": str(min(self._left, MOST_OF_A_PAGE))}
            if self.cursor is not None:
                params["before"] = self.cursor
            answer = self._asking.server.get("/v1/requests", params)
            self._asking.printed(answer)
            page = answer.data
            yield page
            self._left -= len(page["data"])
            self.cursor, self.from_memory = page["next"], page.get("source") == "memory"
            told = page.get("looked_back_to")
            self.looked_back_to = None if told is None else told / 1000
            if self.cursor is None or self._left <= 0:
                return

"""Who used what?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from deployments.cli.server.options import Asking, Instant, asks
from deployments.cli.terminal.printing import pass_on, say, table
from deployments.cli.terminal.text import NOTHING, millis, money, number

GROUPS = ("tenant", "agent", "key", "provider", "model", "day")
# The columns of the answer that are shown, the words for them, and how their values are written.
_SHOWN: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "requests": ("requests", number),
    "answered": ("answered", number),
    "attempts": ("attempts", number),
    "failures": ("failed", number),
    "cancelled": ("cancelled", number),
    "tokens_in": ("tokens in", number),
    "tokens_cached": ("cached", number),
    "tokens_out": ("tokens out", number),
    "cost_usd": ("cost", money),
    "abandoned_cost_usd": ("abandoned", money),
    "failed_cost_usd": ("of that failed", money),
    "hedged_cost_usd": ("hedged", money),
    "cancelled_cost_usd": ("cut", money),
    "unknown_cost": ("unpriced", number),
    "avg_latency_ms": ("latency", millis),
    "avg_first_token_ms": ("first token", millis),
}


class Groups(click.ParamType[str]):
    """Names of groups, with commas."""

    name = "groups"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        if unknown := [name for name in names if name not in GROUPS]:
            self.fail(f"{unknown[0]!r} is no group: {', '.join(GROUPS)}.", param, ctx)
        return ",".join(names)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        *before, begun = incomplete.split(",")
        ahead = "".join(f"{name}," for name in before)
        names = [name for name in GROUPS if name.startswith(begun) and name not in before]
        return [click.shell_completion.CompletionItem(ahead + name) for name in names]


@click.command
@click.option("--by", type=Groups(), metavar="GROUPS", help=f"A row for each: some of {','.join(GROUPS)}.")
@click.option("--since", type=Instant(), metavar="WHEN", help="7d (from midnight UTC), 12h, or an ISO date.")
@click.option("--until", type=Instant(), metavar="WHEN", help="The same; it is not included.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--agent", help="Only this agent.")
@click.option("--key-name", "key", help="Only the API key of this name.")
@click.option("--provider", help="Only this provider.")
@click.option("--model", help="Only this model of a provider.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the server's CSV, with all columns.")
@asks
def usage(asking: Asking, /, by: str | None, as_csv: bool, **filters: str | None) -> None:
    """Who used what: requests, tokens and cost, by tenant, agent, key, provider, model and day (UTC)."""
    params = {name: value for name, value in {**filters, "group_by": by}.items() if value}
    if as_csv:
        if asking.as_json:
            raise click.UsageError("--csv and --json exclude each other.")
        return pass_on(asking.server.text("/v1/usage", {**params, "format": "csv"}), json=False)
    answer = asking.server.get("/v1/usage", params)
    if not asking.printed(answer):
        _print(answer.data["data"], by.split(",") if by else [])
    return None


def _print(rows: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> None:
    if not rows:
        return say("Nothing was used.")
    shown = [name for name in _SHOWN if name in rows[0]]
    head = [*groups, *(_SHOWN[name][0] for name in shown)]
    names = [[row[name] or NOTHING for name in groups] for row in rows]
    figures = [[_SHOWN[name][1](row[name]) for name in shown] for row in rows]
    cells = [[*whose, *told] for whose, told in zip(names, figures, strict=True)]
    extra = ("unpriced", "cancelled", "cached", "first token", "cut", "hedged", "of that failed", "attempts", "latency")
    return table(head, cells, right=head[len(groups) :], extra=[name for name in extra if name in head])

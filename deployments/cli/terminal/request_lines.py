"""One request as one line: in a list, and by itself where requests are followed. Pure."""

from collections.abc import Mapping
from typing import Any

from deployments.cli.terminal.printing import GAP, Cell
from deployments.cli.terminal.text import NOTHING, instant, millis, money, number, style_of, width

HEAD = (
    *("began (UTC)", "request", "row", "outcome", "answered by", "tries", "first", "whole"),
    *("in", "out", "cost", "tenant", "agent"),
)
RIGHT = HEAD[5:11]
EXTRA = ("agent", "in", "out", "first", "tenant", "tries", "cost", "row")
_WIDTHS = (19, 32, 12, 14, 28, 5, 8, 8, 7, 7, 9, 0, 0)


def cells_of(head: Mapping[str, Any]) -> list[Cell]:
    """Return the columns of a request. Its tries have a `+` if it has failed over."""
    outcome = head["outcome"]
    place = f"#{head['place']}" if head.get("place") else ""
    by = f"{head['provider']}{place}/{head['model']}" if head["provider"] else NOTHING
    return [
        Cell(instant(head["began_at"] / 1000)),
        Cell(head["request_id"]),
        Cell(head["row"] or NOTHING),
        Cell(outcome, style_of(outcome) if outcome in ("ok", "cancelled") else "" if outcome == "open" else "red"),
        Cell(by),
        Cell(f"{head['attempts']}+" if head.get("failed_over") else f"{head['attempts']}"),
        Cell(millis(head["first_token_ms"])),
        Cell(millis(head["ms"])),
        Cell(number(head["tokens_in"])),
        Cell(number(head["tokens_out"])),
        Cell(money(head["cost_usd"])),
        Cell(head["tenant"] or NOTHING),
        Cell(head["agent"] or NOTHING),
    ]


def line_of(cells: list[Cell]) -> str:
    """Return a line by itself. Its columns are those of the lines before it as long as the names are short."""
    padded = []
    for name, cell, wanted in zip(HEAD, cells, _WIDTHS, strict=True):
        space = " " * max(0, wanted - width(cell.text))
        padded.append(space + cell.text if name in RIGHT else cell.text + space)
    return GAP.join(padded).rstrip()

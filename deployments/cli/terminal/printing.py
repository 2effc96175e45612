"""Prints text and tables: with colours and lines on a terminal, and as plain columns into a pipe or a file.

A pipe gets each row on one line, whatever it holds, without colours. All text passes through `clean`.
"""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.cli.terminal.text import NOTHING, clean, harmless_json, harmless_lines, width

if TYPE_CHECKING:
    from rich.console import Console

GAP = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a colour, where there are colours."""

    text: str
    style: str = ""


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", style: str = "") -> None:
    """Print one line. It is never cut or wrapped."""
    line = _kept(text)
    if style and is_terminal():
        _console().print(_rich(Cell(line, style)), soft_wrap=True)
    else:
        print(line)


def _kept(text: str) -> str:
    """Return a line with the spaces at its begin."""
    return " " * (len(text) - len(text.lstrip(" "))) + clean_line(text.strip(" "))


def clean_line(text: str) -> str:
    """Return a line in which runs of spaces are kept, because they may be columns."""
    return GAP.join(clean(part) if part.strip() else "" for part in text.split(GAP))


def tell(text: str) -> None:
    """Print one line for who looks on, and not for a program that reads."""
    print(clean(text), file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[str] = ()) -> None:
    """Print rows below a head. `right` names the columns of figures. Cells are texts, or Cells in a colour."""
    cells = [[_cell(value) for value in row] for row in rows]
    if is_terminal():
        _print_rich(head, cells, right)
    else:
        _print_plain(head, cells, right)


def _cell(value: object) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(str(value))
    return Cell(clean_line(cell.text) or NOTHING, cell.style)


def _print_plain(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Collection[str]) -> None:
    lines = [list(head), *([cell.text for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [_padded(text, w, name in right) for text, w, name in zip(line, widths, head, strict=True)]
        print(GAP.join(padded).rstrip())


def _padded(text: str, wanted: int, right: bool) -> str:
    space = " " * (wanted - width(text))
    return space + text if right else text + space


def _print_rich(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Collection[str]) -> None:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(_rich, row))
    _console().print(made)


def _rich(cell: Cell) -> Any:
    """Return a text whose square brackets are no markup."""
    from rich.text import Text

    return Text(cell.text, style=cell.style)


def _console() -> "Console":
    """Return rich's console, which heeds NO_COLOR and the terminal's width."""
    from rich.console import Console  # 80 ms, which a pipe does not need

    return Console(file=sys.stdout, highlight=False, emoji=False, markup=False)


def pass_on(body: bytes, *, json: bool = True) -> None:
    """Print what the server said, byte for byte.

    A terminal gets the same meaning without signs that it would obey.
    """
    if sys.stdout.isatty():
        text = body.decode("utf-8", "replace")
        sys.stdout.write(harmless_json(text) if json else harmless_lines(text))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
    if not body.endswith(b"\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()

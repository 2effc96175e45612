"""Prints text and tables: with colours and lines on a terminal, and as plain columns into a pipe or a file.

A pipe gets each row on one line, whatever it holds, without colours. All text passes through `clean`.
"""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.cli.terminal.text import clean, harmless_json, harmless_lines, width

if TYPE_CHECKING:
    from rich.console import Console

GAP = "  "
LEAST_PROSE = 20  # columns of a terminal: in less, nobody reads


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a colour, where there are colours."""

    text: str
    style: str = ""


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", style: str = "") -> None:
    """Print one line. It is never cut or wrapped."""
    line = clean(text)
    if style and is_terminal():
        _console().print(_rich(Cell(line, style)), soft_wrap=True)
    else:
        print(line)


def tell(text: str) -> None:
    """Print one line for who looks on, and not for a program that reads."""
    print(clean(text), file=sys.stderr, flush=True)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    right: Collection[str] = (),
    prose: Collection[str] = (),
    extra: Sequence[str] = (),
) -> None:
    """Print rows below a head. Cells are texts, or Cells in a colour.

    `right` names the columns of figures, and `prose` those that may be folded where a terminal is too narrow. `extra`
    are columns that are left out there, in this order.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if is_terminal():
        _print_rich(head, cells, right, prose, extra)
    else:
        _print_plain(head, cells, right)


def _cell(value: object) -> Cell:
    cell = value if isinstance(value, Cell) else Cell(str(value))
    return Cell(clean(cell.text), cell.style)


def _print_plain(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Collection[str]) -> None:
    lines = [list(head), *([cell.text for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [_padded(text, w, name in right) for text, w, name in zip(line, widths, head, strict=True)]
        print(GAP.join(padded).rstrip())


def _padded(text: str, wanted: int, right: bool) -> str:
    space = " " * (wanted - width(text))
    return space + text if right else text + space


def _print_rich(
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    right: Collection[str],
    prose: Collection[str],
    extra: Sequence[str],
) -> None:
    from rich.table import Table

    console = _console()
    columns = zip(*[[Cell(name) for name in head], *rows], strict=True)
    widths = {name: max(width(cell.text) for cell in column) for name, column in zip(head, columns, strict=True)}
    least = {name: min(wide, LEAST_PROSE) if name in prose else wide for name, wide in widths.items()}
    shown = _fitting(least, extra, console.width)
    made = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    for name in shown:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", min_width=least[name])
    for row in rows:
        made.add_row(*(_rich(cell) for name, cell in zip(head, row, strict=True) if name in shown))
    # What is wider than the terminal all the same is wrapped by it: cells of two letters can't be read.
    console.width = max(console.width, _wide(shown, least))
    console.print(made)


def _fitting(least: dict[str, int], extra: Sequence[str], most: int) -> list[str]:
    """Return the columns that are shown on so wide a terminal."""
    shown = list(least)
    for name in extra:
        if _wide(shown, least) <= most:
            break
        shown.remove(name)
    return shown


def _wide(names: Sequence[str], least: dict[str, int]) -> int:
    return sum(least[name] for name in names) + len(GAP) * len(names)


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

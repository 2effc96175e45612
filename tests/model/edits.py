"""A source file as bytes, found by the nodes of its syntax tree, and edits of it."""

import ast
import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Edit:
    """Bytes of the source from `start` to `end`, and what stands there instead."""

    start: int
    end: int
    text: str


class Source:
    def __init__(self, text: str):
        self.bytes = text.encode()
        self._begins = [0]
        for line in self.bytes.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.bytes)

    def start(self, node: ast.AST) -> int:
        return self._at(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self._at(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def _at(self, line: int, col: int) -> int:
        return self._begins[line - 1] + col

    def put(self, node: ast.AST, text: str) -> list[Edit]:
        return [Edit(self.start(node), self.end(node), text)]

    def between(self, left: ast.AST, right: ast.AST, pattern: str, text: str) -> list[Edit]:
        """The operator that stands between two nodes, replaced."""
        start = self.end(left)
        gap = self.bytes[start : self.start(right)].decode()
        gap = re.sub(r"#[^\n]*", lambda found: " " * len(found[0].encode()), gap)
        found = re.search(pattern, gap)
        return [Edit(start + found.start(), start + found.end(), text)] if found else []

    def line_of(self, at: int) -> tuple[int, int]:
        """Line and column of a byte."""
        line = max(i for i, begin in enumerate(self._begins) if begin <= at)
        return line + 1, at - self._begins[line]

    def lines(self, first: int, last: int) -> str:
        text = self.bytes[self._begins[first - 1] : self._begins[last]].decode()
        return " ".join(line.strip() for line in text.splitlines())

    def changed(self, edits: list[Edit]) -> "Source":
        text = self.bytes
        for edit in sorted(edits, key=lambda e: -e.start):
            text = text[: edit.start] + edit.text.encode() + text[edit.end :]
        return Source(text.decode())

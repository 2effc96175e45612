"""Every small change that can be made to a source file, over its syntax tree: one edit or one kind of edit a mutant.

Nothing here runs a mutant (forked.py does), or knows which of them matter (generated.py).
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.model.edits import Edit, Source

OTHER_WAY = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
    ast.And: (r"\band\b", "or"),
    ast.Or: (r"\bor\b", "and"),
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: (r"\*\*", "*"),
}
WORD = re.compile(r"[a-z][a-z_]*")
NAMING = frozenset(
    {"get", "pop", "getattr", "setattr", "startswith", "endswith", "partition", "split", "join", "encode", "TypeVar"}
)  # what they are given first is a key, and no state or reason
METERS = frozenset({"meter", "_meter"})


Function = ast.FunctionDef | ast.AsyncFunctionDef
Change = tuple[str, list[Edit]]  # the operator's name, and what it does


@dataclass(frozen=True)
class Place:
    """Where a node stands: the lines of its statement, as far as they belong to no statement inside it."""

    lines: tuple[int, int] = (0, 0)
    function: str = ""  # that it is inside of
    metric: bool = False  # it only tells the meter something


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    col: int
    operator: str
    place: Place
    before: str  # the lines that it changes
    after: str
    source: str = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.file}:{self.line}:{self.col}:{self.operator}"


def _operators(source: Source, node: ast.AST) -> Iterator[Change]:
    """Comparisons, and/or, arithmetic, `+=`."""
    match node:
        case ast.Compare(left, ops, comparators):
            for a, op, b in zip([left, *comparators], ops, comparators, strict=False):
                yield "swap-compare", source.between(a, b, *OTHER_WAY[type(op)])
        case ast.BoolOp(op, values):
            gaps = pairwise(values)
            yield "swap-and-or", [e for a, b in gaps for e in source.between(a, b, *OTHER_WAY[type(op)])]
        case ast.BinOp(left, op, right) if type(op) in OTHER_WAY:
            yield "swap-arithmetic", source.between(left, right, *OTHER_WAY[type(op)])
        case ast.AugAssign(target, op, value) if type(op) in OTHER_WAY:
            yield "swap-augmented", source.between(target, value, *OTHER_WAY[type(op)])
        case ast.UnaryOp(ast.Not()):
            yield "drop-not", [Edit(source.start(node), source.start(node) + len("not"), "")]
        case ast.UnaryOp(ast.USub()):
            yield "drop-minus", [Edit(source.start(node), source.start(node) + len("-"), "")]


def _values(source: Source, node: ast.AST) -> Iterator[Change]:
    """Constants, and min and max."""
    match node:
        case ast.Constant(bool(value)):
            yield "flip", source.put(node, str(not value))
        case ast.Constant(int(value) | float(value)):
            yield "one-more", source.put(node, repr(value + 1))
            if value:
                yield "zero", source.put(node, "0")
        case ast.Constant(str(value)) if WORD.fullmatch(value):
            yield "other-word", source.put(node, '"mutant"')
        case ast.Name("min" | "max" as name, ast.Load()):
            yield "swap-min-max", source.put(node, "max" if name == "min" else "min")


def _tests(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test) | ast.IfExp(test) | ast.While(test):
            return [test]
        case ast.comprehension(ifs=tests):
            return tests
        case ast.match_case(guard=guard) if guard is not None:
            return [guard]
    return []


def _flow(source: Source, node: ast.AST) -> Iterator[Change]:
    """Conditions, returned values, statements, arguments."""
    for test in _tests(node):
        if not isinstance(test, ast.Constant):
            yield "if-true", source.put(test, "True")
            yield "if-false", source.put(test, "False")
    match node:
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return-none", source.put(value, "None")
        case (
            ast.Expr(ast.Call() | ast.Await() | ast.IfExp())
            | ast.Delete()
            | ast.Assign([ast.Attribute() | ast.Subscript()])
            | ast.AugAssign(ast.Attribute() | ast.Subscript())
            | ast.AnnAssign(ast.Attribute() | ast.Subscript(), value=ast.expr())
        ):
            yield "drop-statement", source.put(node, "pass")
        case ast.Call(keywords=keywords):
            yield from (_dropped(source, node, k) for k in keywords if k.arg)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _returned_early(source, node)


def _dropped(source: Source, call: ast.Call, keyword: ast.keyword) -> Change:
    """The call without that argument, and without one comma."""
    start, end = source.start(keyword), source.end(keyword)
    rest = re.match(rb"\s*,\s*", source.bytes[end:])
    if rest:
        return "drop-argument", [Edit(start, end + rest.end(), "")]
    before = re.search(rb",\s*$", source.bytes[source.start(call) : start])
    return "drop-argument", [Edit(start - (len(before[0]) if before else 0), end, "")]


def _body(node: Function) -> list[ast.stmt]:
    return node.body if ast.get_docstring(node, clean=False) is None else node.body[1:]


def _returned_early(source: Source, node: Function) -> Iterator[Change]:
    body = _body(node)
    trivial = not body or isinstance(body[0], ast.Return | ast.Raise | ast.Pass)
    alone = len(body) == 1 and isinstance(body[0], ast.Expr)
    if trivial or alone or node.name in ("__init__", "__post_init__") or body[0].lineno == node.lineno:
        return
    first = source.start(body[0])
    yield "return-early", [Edit(first, first, "return\n" + " " * body[0].col_offset)]


def _silent(node: ast.AST) -> bool:
    """Nothing in it can matter: a log line, an annotation's text, an f-string, a check for the type checker."""
    match node:
        case ast.Call(ast.Attribute(ast.Name("log" | "logging"))) | ast.JoinedStr() | ast.Assert():
            return True
        case ast.FunctionDef(name="__repr__" | "__str__") | ast.If(ast.Name("TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=[*_, ast.Name("Protocol")]):
            return True
        case ast.If(body=body, orelse=[]) if all(map(_silent, body)):
            return True
        case ast.Expr(ast.Constant() | ast.Call(ast.Attribute(ast.Name("log")))):
            return True
    return False


def _children(node: ast.AST) -> list[ast.AST]:
    """Without decorators, bases, annotations, patterns."""
    match node:
        case ast.FunctionDef(args=args, body=body) | ast.AsyncFunctionDef(args=args, body=body):
            return [*args.defaults, *(d for d in args.kw_defaults if d is not None), *body]
        case ast.Lambda(args=args, body=body):
            return [*args.defaults, body]
        case ast.ClassDef(body=body):
            return list(body)
        case ast.AnnAssign(value=value):
            return [] if value is None else [value]
        case ast.match_case(guard=guard, body=body):
            return [*([] if guard is None else [guard]), *body]
    return list(ast.iter_child_nodes(node))


def _keys(node: ast.AST) -> set[int]:
    """Strings in it that name a field."""
    match node:
        case ast.Dict(keys=keys):
            return {id(key) for key in keys}
        case ast.Subscript(slice=key):
            return {id(inner) for inner in ast.walk(key)}
        case ast.Call(ast.Attribute(attr=name) | ast.Name(name), args=[first, *_]) if name in NAMING:
            return {id(first)}
    return set()


def _within(node: ast.AST, parent: ast.AST, place: Place) -> Place:
    """The place of a child."""
    if isinstance(parent, Function) and node in parent.body:
        place = replace(place, function=parent.name)
    match node:
        case ast.Expr(ast.Call(ast.Attribute(ast.Attribute(attr=owner) | ast.Name(owner)))) if owner in METERS:
            place = replace(place, metric=True)
    if isinstance(node, ast.stmt):
        inner = [c.pattern for c in node.cases] if isinstance(node, ast.Match) else getattr(node, "body", None)
        last = inner[0].lineno - 1 if inner else node.end_lineno or node.lineno
        place = replace(place, lines=(node.lineno, max(node.lineno, last)))
    return place


def _changes(source: Source, node: ast.AST, place: Place, keys: set[int]) -> Iterator[tuple[Change, Place]]:
    if _silent(node):
        return
    for change in (*_operators(source, node), *_values(source, node), *_flow(source, node)):
        if change[1] and not (id(node) in keys and change[0] == "other-word"):
            # All that a function itself can be changed in is its beginning.
            yield change, _within(_body(node)[0], node, place) if isinstance(node, Function) else place
    for child in _children(node):
        yield from _changes(source, child, _within(child, node, place), keys | _keys(node))


def mutants_of(file: str, text: str) -> list[Mutant]:
    """Every mutant of a file that can be compiled and is another program, in the file's order."""
    source = Source(text)
    seen = {ast.dump(source.tree)}
    found: dict[str, Mutant] = {}
    for (operator, edits), place in _changes(source, source.tree, Place(), set()):
        changed = source.changed(edits)
        try:
            dump = ast.dump(changed.tree)
        except SyntaxError:
            continue
        if dump in seen:
            continue
        seen.add(dump)
        first, last = edits[0].start, edits[-1].end
        (line, col), (end, _) = source.line_of(first), source.line_of(max(first, last - 1))
        ends = changed.line_of(first + sum(len(e.text) - (e.end - e.start) for e in edits) + last - first)[0]
        before, after = source.lines(line, end), changed.lines(line, max(line, ends))
        mutant = Mutant(file, line, col, operator, place, before, after, changed.bytes.decode())
        assert mutant.id not in found, mutant.id
        found[mutant.id] = mutant
    return sorted(found.values(), key=lambda m: (m.line, m.col, m.operator))

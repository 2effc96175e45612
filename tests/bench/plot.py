"""The plot of a run, an SVG written by hand: four bar charts, nothing to install. Pure."""

import math
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from tests.bench.scenarios import BURST_64, MANY, ONE, PACED_16, PACED_64, Cell

COLOURS = {"breakwater": "#1f6f8b", "beside": "#7fb3c4", "litellm": "#c97b3d", "portkey": "#8a8a8a"}
CHARTS: tuple[tuple[str, Cell, str], ...] = (
    ("added p50, one connection, ms", ONE, "added_p50"),
    ("CPU of a request, 64 connections, ms", MANY, "cpu_ms"),
    ("first token added, 16 streams, p50 ms", PACED_16, "added_first_p50"),
    ("CPU of a stream of 50 frames at 5 ms, ms", PACED_64, "cpu_ms"),
    ("CPU of a stream of 50 frames at once, ms", BURST_64, "cpu_ms"),
)
WIDTH, LEFT, BAR, GAP, TITLE = 640, 110, 20, 6, 34


def svg(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One chart for each of `CHARTS` that was measured, on a scale of its own."""
    parts: list[str] = []
    top = 10
    for title, cell, figure in CHARTS:
        systems = found.get(cell.name, {})
        values = {name: systems[name][figure] for name in COLOURS if name in systems}
        if values and not any(math.isnan(value) for value in values.values()):
            parts += _chart(title, values, top)
            top += TITLE + len(values) * (BAR + GAP) + 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>', *parts, "</svg>\n"])


def _chart(title: str, values: Mapping[str, float], top: int) -> Iterator[str]:
    yield f'<text x="10" y="{top + 18}" font-size="15" fill="#222222">{escape(title)}</text>'
    scale = (WIDTH - LEFT - 90) / max(*values.values(), 1e-9)
    for number, (name, value) in enumerate(values.items()):
        y = top + TITLE + number * (BAR + GAP)
        length = max(1.0, value * scale)
        yield f'<text x="{LEFT - 8}" y="{y + 15}" font-size="13" text-anchor="end" fill="#222222">{name}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 15}" font-size="13" fill="#222222">{value:.3g}</text>'

"""The figures, the dashboard, the alerts and the table of metrics say the same, without any program that runs them."""

import importlib.util
import itertools
import json
import pathlib
import re

import pytest

from actors.breaker.outcomes import ENDINGS, Guilt
from actors.breaker.registry import STATES
from actors.metrics import METRICS
from actors.ray_metrics import APPLICATION
from tests.observability.asked import Query, alerts, dashboard, panels, queries, rules, variables
from tests.readme import PAGES, ROOT

OURS, SERVES = "ray_breakwater_", "ray_serve_"
OF_ALL = {APPLICATION, "SessionName", "ray_io_cluster"}
OF_SERVE = {"deployment", "replica"}
FILTER = 'application=~"$Application",SessionName=~"$SessionName",ray_io_cluster=~"$Cluster"'
# Codes of requests that end before anybody is asked, beside the kinds of actors/breaker/outcomes.py.
REFUSED = {"model_not_found", "invalid_value", "invalid_image_url"}


def figure_of(name: str) -> str:
    """The figure behind a series' name."""
    plain = name.removeprefix("ray_")
    figure = plain.removesuffix("_bucket")
    assert plain == figure or METRICS[figure].kind == "histogram"
    return figure


def labels_of(query: Query) -> set[str]:
    known = set(OF_ALL)
    for name in query.names:
        if name.startswith(OURS):
            known |= {*METRICS[figure_of(name)].labels, *(["le"] if name.endswith("_bucket") else [])}
        elif name.startswith(SERVES):
            known |= OF_SERVE
        else:
            [recorded] = [q for q in alerts() if q.title == name]
            known |= labels_of(recorded)
    return known


EVERY = [*queries(), *variables(), *alerts()]


@pytest.mark.parametrize("query", EVERY, ids=lambda q: q.title)
def test_what_is_asked_for_is_counted_and_has_those_labels(query: Query) -> None:
    assert query.selectors
    for selector in query.selectors:
        if selector.name.startswith(OURS):
            assert selector.labels <= {*METRICS[figure_of(selector.name)].labels, *OF_ALL}, selector
    assert query.grouped <= labels_of(query)
    told = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    assert told <= query.grouped


def test_every_figure_is_in_the_dashboard() -> None:
    shown = {figure_of(name) for query in queries() for name in query.names if name.startswith(OURS)}
    assert shown == METRICS.keys()


def test_what_is_not_ours_is_a_figure_of_ray_serve() -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    source = "\n".join(p.read_text() for p in (pathlib.Path(spec.origin).parent / "serve").rglob("*.py"))
    theirs = {name for query in EVERY for name in query.names if name.startswith(SERVES)}
    assert theirs
    for name in theirs:
        counted = name.removeprefix("ray_").removesuffix("_total")
        assert f'"{counted}"' in source, name


def test_a_rate_is_taken_of_no_gauge() -> None:
    for query in EVERY:
        for name in re.findall(rf"\brate\(({OURS}\w+)", query.expression):
            assert METRICS[figure_of(name)].kind != "gauge", query


def test_no_average_is_made_of_a_histograms_sum() -> None:
    # Ray makes it of its buckets' midpoints: half of the truth, or a tenth of it.
    assert not [q for q in EVERY if re.search(r"_(sum|count)\b", q.expression)]


def test_every_query_of_the_dashboard_keeps_to_what_was_chosen_above_it() -> None:
    for query in queries():
        for selector in query.selectors:
            assert FILTER in selector.text, query
    assert {v.title for v in variables()} == {"Application", "SessionName", "Cluster"}
    everything = [*panels(), *(v for v in dashboard()["templating"]["list"] if v["type"] == "query")]
    assert {json.dumps(x["datasource"]) for x in everything} == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_the_panels_have_a_place_each_and_a_number_each() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in every)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells), "two panels overlap"
    assert set(cells) == set(itertools.product(range(24), range(1 + max(y for _, y in cells)))), "a hole"
    assert all(panel["title"] for panel in every)


def test_every_state_of_a_circuit_has_its_colour() -> None:
    [timeline] = [panel for panel in panels() if panel["type"] == "state-timeline"]
    [mapping] = timeline["fieldConfig"]["defaults"]["mappings"]
    named = {code: option["text"].replace("-", "_") for code, option in mapping["options"].items()}
    asked = re.findall(
        r'(?:(\d) \* )?\(max by \([^)]*\) \(ray_breakwater_state\{state="(\w+)"', timeline["targets"][0]["expr"]
    )
    assert {state: code or "1" for code, state in asked} == {state: code for code, state in named.items()}
    assert set(named.values()) == set(STATES)


def test_what_a_client_has_done_itself_is_no_failure_of_ours() -> None:
    callers = {kind for kind, ending in ENDINGS.items() if ending.guilt is Guilt.CALLER} - {"deadline"}
    for query in EVERY:
        for left_out in re.findall(r'outcome!~"([^"]+)"', query.expression):
            assert {*left_out.split("|")} - {"ok"} == callers | REFUSED, query


def labels_told_apart(query: Query) -> set[str]:
    return query.grouped.union(*(recorded.grouped for recorded in alerts() if recorded.title in query.names))


def test_an_alert_says_what_is_so_where_and_what_to_do() -> None:
    for rule, query in zip(rules(), alerts(), strict=True):
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"].keys() == {"runbook", "summary", "description"}
            told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
            assert told <= labels_told_apart(query), rule["alert"]


def test_one_page_has_the_table_of_all_figures() -> None:
    rows = [
        f"| `{name}` | {figure.kind} | {', '.join(f'`{label}`' for label in figure.labels)} | {figure.what} |"
        for name, figure in METRICS.items()
    ]
    pages = {page: (ROOT / page).read_text().splitlines() for page in PAGES}
    found = [(page, line) for page, lines in pages.items() for line in lines if line.startswith("| `breakwater_")]
    assert found == [("docs/observability.md", row) for row in rows], "\n".join(rows)

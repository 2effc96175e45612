"""What the dashboard and the alerts ask Prometheus for, taken from the files that are shipped."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.readme import ROOT

DASHBOARD = ROOT / "deployments" / "ops" / "grafana_dashboard.json"
ALERTS = ROOT / "deployments" / "ops" / "alerts.yml"
# What Grafana puts in for its variables; windows as a test can fill them.
VARIABLES = {
    "$__rate_interval": "20s",
    "$__interval": "60s",
    "$__range": "120s",
    "$Application": "llm",
    "$SessionName": ".*",
    "$Cluster": ".*",
}
_SELECTOR = re.compile(r"\b(ray_(?:breakwater|serve)_\w+|breakwater:[\w:]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    name: str
    labels: frozenset[str]  # that it matches
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    title: str  # of its panel, its variable, or its rule
    expression: str
    legend: str = ""
    kind: str = ""

    @property
    def selectors(self) -> list[Selector]:
        found = _SELECTOR.finditer(self.expression)
        return [Selector(m[1], frozenset(_MATCHER.findall(m[2] or "")), m[2] or "") for m in found]

    @property
    def names(self) -> set[str]:
        return {selector.name for selector in self.selectors}

    @property
    def grouped(self) -> set[str]:
        """The labels that its result is told apart by."""
        return {label.strip() for group in _GROUPED.findall(self.expression) for label in group.split(",")}

    def filled(self) -> str:
        expression = self.expression
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, expression
        return expression


@cache
def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["expr"], target["legendFormat"], panel["type"])
        for panel in panels()
        for target in panel["targets"]
    ]


def variables() -> list[Query]:
    """As the series that Grafana takes a label's values from."""
    listed = [v for v in dashboard()["templating"]["list"] if v["type"] == "query"]
    found = [(v["name"], re.fullmatch(r"label_values\((.+), (\w+)\)", v["definition"])) for v in listed]
    return [Query(name, match[1], match[2]) for name, match in found if match is not None]


@cache
def rules() -> tuple[dict[str, Any], ...]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return tuple(rule for group in groups for rule in group["rules"])


def alerts() -> Iterator[Query]:
    for rule in rules():
        yield Query(rule.get("alert") or rule["record"], rule["expr"])

"""The alerts under promtool: each fires where it must and nowhere else, and the test of that would notice."""

import pathlib
import shutil

import pytest
import yaml

from tests.cluster.conftest import ROOT
from tests.observability.asked import ALERTS, rules
from tests.observability.prometheus import program, promtool, ran_promtool

pytestmark = pytest.mark.prometheus

TESTS = ROOT / "tests" / "observability" / "alerts_test.yml"
NAMES = [rule["alert"] for rule in rules() if "alert" in rule]


def test_promtool_takes_the_rules() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(ALERTS))


def test_each_alert_fires_where_it_must_and_nowhere_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("never", [True, False], ids=["never", "always"])
def test_an_alert_that_never_or_always_fires_is_noticed(name: str, never: bool, tmp_path: pathlib.Path) -> None:
    data = yaml.safe_load(ALERTS.read_text())
    [broken] = [rule for rule in data["groups"][0]["rules"] if rule.get("alert") == name]
    broken["expr"] = "vector(1) > 1" if never else 'label_replace(vector(1), "application", "llm", "", "")'
    broken.pop("for", None)
    (tmp_path / "deployments" / "ops").mkdir(parents=True)
    (tmp_path / "deployments" / "ops" / ALERTS.name).write_text(yaml.safe_dump(data))
    (tmp_path / "tests" / "seen").mkdir(parents=True)
    copied = shutil.copy(TESTS, tmp_path / "tests" / "seen")
    program("promtool")
    assert ran_promtool("test", "rules", str(copied)).returncode == 1

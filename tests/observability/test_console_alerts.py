"""What the console shows of a real Prometheus: the alerts that are ours and fire."""

import asyncio
import pathlib
from datetime import datetime
from typing import Any

import pytest
import yaml

from deployments.console.alerts import WHERE, FiringAlerts
from tests.cluster.conftest import eventually, free_port
from tests.observability.prometheus import program, served

pytestmark = pytest.mark.prometheus


def rule(name: str, **more: str) -> dict[str, Any]:
    words = {"summary": f"{name} on {{{{ $labels.provider }}}}", "runbook": f"docs/operations.md#{name.lower()}"}
    labelled = 'label_replace(vector(1), "provider", "openai", "", "")'
    return {"alert": name, "expr": labelled, "labels": {"severity": "page"}, "annotations": words, **more}


def test_ours_that_fire_are_shown_with_since_when_and_what_to_do(tmp_path: pathlib.Path) -> None:
    rules = [rule("BreakwaterAlways"), rule("BreakwaterSoon", **{"for": "1h"}), rule("SomebodyElses")]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yml")]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/d"]
    listen = f"--web.listen-address={address}"
    with served([*command, listen], address, tmp_path / "prometheus.log") as prometheus:

        def told() -> Any:
            return asyncio.run(FiringAlerts({WHERE: prometheus.url}).look())

        [alert] = eventually(lambda: told()["data"])
        assert told()["trouble"] is None
        assert (alert["name"], alert["severity"]) == ("BreakwaterAlways", "page")
        assert alert["summary"] == "BreakwaterAlways on openai"
        assert alert["runbook"] == "docs/operations.md#breakwateralways"
        assert datetime.fromisoformat(alert["since"]).tzinfo is not None

"""What an operator has told the breaker outlives a cluster, by a file."""

import json
import pathlib

import pytest

from deployments.ops.breaker import main
from tests.cluster.conftest import Cluster, eventually


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "admin")
    monkeypatch.delenv("BREAKWATER_KEY", raising=False)


def test_thresholds_and_isolations_are_as_before_after_a_restore(
    llm: Cluster, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "breaker.json"
    llm.thresholds(failure_threshold=7)
    llm.command("isolate", "openai")
    eventually(lambda: llm.get("/v1/providers/openai")["isolated"])
    try:
        assert main(["backup", llm.url, str(file)]) == 0
        assert capsys.readouterr().out == f"{file} holds 1 thresholds and 1 isolated providers.\n"
        llm.thresholds(failure_threshold=None)
        llm.command("restore", "openai")
        eventually(lambda: not llm.get("/v1/providers/openai")["isolated"])
        assert main(["restore", llm.url, str(file)]) == 0
        eventually(lambda: llm.get("/v1/providers/openai")["isolated"])
        left = max(t["isolated_for_seconds"] for t in llm.get("/v1/providers/openai")["targets"].values())
        assert 3000 < left <= 3600
        assert llm.thresholds()["failure_threshold"] == 7
    finally:
        llm.thresholds(failure_threshold=None)
        llm.command("restore", "openai")


def test_what_can_not_be_done_is_said_in_one_sentence(
    llm: Cluster, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "breaker.json"
    file.write_text(json.dumps({"schema": 99}))
    assert main(["restore", llm.url, str(file)]) == 1
    assert "is no back-up of a breaker" in capsys.readouterr().err
    assert main(["backup", llm.url, str(file)]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["backup", "http://127.0.0.1:9", str(tmp_path / "new")]) == 1
    assert "can't be asked" in capsys.readouterr().err
    assert main(["backup"]) == 1
    assert "Say backup URL FILE" in capsys.readouterr().err
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "wrong")
    assert main(["backup", llm.url, str(tmp_path / "new")]) == 1
    said = capsys.readouterr().err
    assert "401" in said
    assert "BREAKWATER_ADMIN_KEY" in said
    assert said.count("\n") == 1

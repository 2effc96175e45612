"""llm-comply's tests of an OpenAI chat endpoint, against each tier alone."""

import json
import pathlib
import subprocess
from typing import Any

import pytest

from tests.clients.client import clean_environment, with_packages
from tests.clients.conftest import TIERS
from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.clients

LLM_COMPLY = "llm-comply==0.5.0"
CANNOT = {("local", "chat-image-input"): "the model reads text only: a 400 that names the message"}
# It asks for reasoning only if the name looks like that of a model that reasons.
MODELS = {"openai": "openai/gpt-5.4-mini"}
MARKS = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}


def comply(url: str, model: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    where = ["--base-url", f"{url}/v1", "--api-key", "none", "--model", model]
    done = subprocess.run(
        [*with_packages(LLM_COMPLY), "llm-comply", "--format", "openai-chat", "--json", *where],
        cwd=folder,  # far from our pyproject.toml, which uv would read
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return results


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_conforms_to_openais_chat(
    llm: Cluster, tier: str, tmp_path: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    rows = tables.setdefault("llm-comply", ["| llm-comply | tier | | why |", "|---|---|---|---|"])
    results = comply(llm.url, MODELS.get(tier, f"only-{tier}"), tmp_path)
    for result in results:
        said = "; ".join([*result.get("errors", ()), *result.get("warnings", ())])
        why = CANNOT.get((tier, result["id"]), said)
        rows.append(f"| {result['id']} | {tier} | {MARKS[result['status']]} | {why} |")
    assert {r["id"] for r in results if r["status"] == "failed"} == {name for at, name in CANNOT if at == tier}
    assert [r["id"] for r in results if r["status"] == "passed"]

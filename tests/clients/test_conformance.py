"""llm-comply's tests of chat completions, of Responses and of Messages, against each tier alone."""

import json
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.clients.client import clean_environment, with_packages
from tests.clients.conftest import TIERS
from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.clients

LLM_COMPLY = "llm-comply==0.5.0"
_TEXT_ONLY = "the model reads text only: a 400 that names the message"
# By API: what fails, on which tier, and why.
CANNOT: Mapping[str, Mapping[tuple[str, str], str]] = {
    "openai-chat": {("local", "chat-image-input"): _TEXT_ONLY},
    "open-responses": {
        ("local", "image-input"): _TEXT_ONLY,
    },
    "anthropic": {("local", "anth-image-input"): _TEXT_ONLY},
}
# It asks for reasoning only if the name begins as that of a model that reasons.
STEMS = {"openai-chat": "gpt-5.5-", "open-responses": "gpt-5.5-", "anthropic": "claude-opus-4-8-"}
MARKS = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}


def comply(api: str, url: str, model: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    where = ["--base-url", f"{url}/v1", "--api-key", "none", "--model", model]
    done = subprocess.run(
        [*with_packages(LLM_COMPLY), "llm-comply", "--format", api, "--json", *where],
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
@pytest.mark.parametrize("api", CANNOT)
def test_a_tier_conforms_to_an_api(
    llm: Cluster, api: str, tier: str, tmp_path: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    rows = tables.setdefault("llm-comply", ["| llm-comply | test | tier | | why |", "|---|---|---|---|---|"])
    results = comply(api, llm.url, f"{STEMS[api]}only-{tier}", tmp_path)
    for result in results:
        said = "; ".join([*result.get("errors", ()), *result.get("warnings", ())])
        why = CANNOT[api].get((tier, result["id"]), said)
        rows.append(f"| {api} | {result['id']} | {tier} | {MARKS[result['status']]} | {why} |")
    assert {r["id"] for r in results if r["status"] == "failed"} == {name for at, name in CANNOT[api] if at == tier}
    assert [r["id"] for r in results if r["status"] == "passed"]

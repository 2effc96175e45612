"""The frameworks of docs/python-api.md, each in an environment of its own. `uv run pytest -m clients`."""

import pathlib
import re

import pytest

from tests.clients.environments import environment
from tests.cluster.conftest import Cluster
from tests.cluster.scripts import printed_by
from tests.cluster.test_readme import FRAMEWORKS, PYTHON, copy_client
from tests.readme import blocks

pytestmark = pytest.mark.clients

PACKAGES = {
    "langgraph": ("langgraph==1.2.22", "langchain-openai==1.7.4"),
    "pydantic_ai": ("pydantic-ai-slim==2.62.0", "openai==3.54.0"),
    "langchain_anthropic": ("langchain-anthropic==1.7.10", "anthropic==2.14.0"),
    "agents": ("openai-agents==0.24.0", "openai==3.54.0"),
}


@pytest.mark.parametrize("framework", PACKAGES)
def test_an_actor_with_a_framework_is_answered(llm: Cluster, tmp_path: pathlib.Path, framework: str) -> None:
    examples = [blocks("python", PYTHON)[number] for _, number in FRAMEWORKS]
    [example] = [text for text in examples if re.search(rf"^(?:from|import) {framework}\b", text, re.MULTILINE)]
    assert "127.0.0.1" not in example
    python = environment(tmp_path / "environment", "ray[serve]==2.60.0", *PACKAGES[framework])
    app = tmp_path / "app"  # which is sent to the actor, and the environment is not
    app.mkdir()
    copy_client(app)
    (app / "example.py").write_text(example)
    assert printed_by(app, "example.py", python=python).splitlines()[-1] == "Paris is the capital."

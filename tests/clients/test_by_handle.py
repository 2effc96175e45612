"""SDKs and frameworks inside Ray tasks and actors, without a port and a key. `uv run pytest -m clients`."""

import json
import pathlib
import shutil

import pytest

from tests.clients.client import HERE
from tests.clients.environments import environment
from tests.cluster.conftest import Cluster
from tests.cluster.scripts import printed_by
from tests.cluster.test_readme import copy_client

pytestmark = pytest.mark.clients

PACKAGES = (
    "ray[serve]==2.60.0",
    *("openai==3.54.0", "anthropic==2.14.0", "httpx==0.28.1"),
    *("langchain-openai==1.7.4", "pydantic-ai-slim[anthropic]==2.62.0"),
)
SAID = "Paris is the capital."


def test_each_sdk_and_framework_is_answered_in_tasks_and_actors(llm: Cluster, tmp_path: pathlib.Path) -> None:
    python = environment(tmp_path / "environment", *PACKAGES)
    app = tmp_path / "app"
    app.mkdir()
    copy_client(app)
    shutil.copy(HERE / "with_handle.py", app)
    said = json.loads(printed_by(app, "with_handle.py", python=python).splitlines()[-1])
    assert said.pop("async_httpx_refused") == "unavailable"
    assert len(said) == 9
    assert said == dict.fromkeys(said, SAID)

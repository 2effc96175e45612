"""What the README shows, run as it stands."""

import asyncio
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest
from ray import serve

from tests.cluster.conftest import ROOT, Cluster
from tests.cluster.scripts import printed_by
from tests.readme import blocks, command, curl


def run_example(number: int, folder: pathlib.Path) -> str:
    """What a Python block prints, in a folder with a copy of client.py and none of our code."""
    shutil.copy(ROOT / "deployments" / "client.py", folder / "breakwater.py")
    (folder / "example.py").write_text(blocks("python")[number])
    return printed_by(folder, "example.py")


def test_the_python_example_prints_answers_and_a_stream(llm: Cluster, tmp_path: pathlib.Path) -> None:
    lines = run_example(0, tmp_path).splitlines()
    assert lines[0].startswith("Paris is the capital. {'provider': 'aws_bedrock'")
    assert lines[1].startswith("Paris is the capital. aws_bedrock ")
    assert lines[2:] == ["Paris openai", "Paris is the capital."]


def test_the_agent_app_of_the_example_answers(llm: Cluster, tmp_path: pathlib.Path) -> None:
    run_example(1, tmp_path)

    async def main() -> None:
        answer: Any = serve.get_app_handle("agents").answer.remote("What is the capital of France?")
        assert await answer == "Paris is the capital."

    try:
        asyncio.run(main())
    finally:
        serve.delete("agents")


@pytest.mark.parametrize(
    "start",
    [
        "curl http://127.0.0.1:8000/v1/chat/completions",
        "curl -N http://127.0.0.1:8000/v1/chat/completions",
        "curl http://127.0.0.1:8000/v1/models",
        "curl http://127.0.0.1:8000/v1/providers",
    ],
)
def test_every_curl_works(llm: Cluster, start: str) -> None:
    assert curl(command(start), base=llm.url).status == 200


def test_the_check_command_reports(llm: Cluster) -> None:
    line = command("uv run python -m deployments.config").split()[2:]
    done = subprocess.run([sys.executable, *line[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4. local (local): ready" in done.stdout

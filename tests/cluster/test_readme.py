"""What the README shows, run as it stands."""

import os
import subprocess
import sys

import pytest
import ray

from tests.cluster.conftest import ROOT, Cluster
from tests.readme import blocks, command, curl


def test_the_python_example_prints_an_answer_and_a_stream(llm: Cluster) -> None:
    [example] = blocks("python")
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd="/",  # none of our code on its path
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris is the capital. {'provider': 'aws_bedrock'" in done.stdout
    assert done.stdout.strip().endswith("Paris is the capital.")


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

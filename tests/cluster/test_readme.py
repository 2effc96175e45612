"""What the README and the pages of docs/ show, run as it stands."""

import asyncio
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from ray import serve

from tests.cluster.conftest import ROOT, Cluster, eventually
from tests.cluster.scripts import printed_by
from tests.readme import PAGES, README, blocks, command, commands, curl

PYTHON = "docs/python-api.md"
RUN_HERE = {(README, 0), *((PYTHON, number) for number in range(4))}  # a page, and the number of its block
GPU_TIER = {("docs/gpu-tier.md", number) for number in (0, 1)}  # run by test_serve_handles.py, tests/io/test_docs.py
FRAMEWORKS = {(PYTHON, number) for number in (4, 5, 6, 7)}  # run by tests/clients/test_frameworks.py
WITH_CURLS = [page for page in PAGES if any(line.startswith("curl ") for line in commands(page))]


def copy_client(folder: pathlib.Path) -> None:
    """Copy the files that a user copies."""
    shutil.copy(ROOT / "deployments" / "client.py", folder / "breakwater.py")
    shutil.copy(ROOT / "deployments" / "sdk_transport.py", folder)


def run_example(page: str, number: int, folder: pathlib.Path) -> str:
    """What a Python block prints, in a folder with copies for users and none of our code."""
    copy_client(folder)
    (folder / "example.py").write_text(blocks("python", page)[number])
    return printed_by(folder, "example.py")


def test_every_python_block_is_run_here() -> None:
    shown = {(page, number) for page in PAGES for number, _ in enumerate(blocks("python", page))}
    assert shown == RUN_HERE | FRAMEWORKS | GPU_TIER


def test_the_first_python_example_prints_an_answer(llm: Cluster, tmp_path: pathlib.Path) -> None:
    assert run_example(README, 0, tmp_path) == "Paris is the capital. aws_bedrock 1\n"


def test_the_python_example_prints_answers_and_a_stream(llm: Cluster, tmp_path: pathlib.Path) -> None:
    lines = run_example(PYTHON, 0, tmp_path).splitlines()
    assert lines[0].startswith("Paris is the capital. {'provider': 'aws_bedrock'")
    assert lines[1].startswith("Paris is the capital. aws_bedrock ")
    assert lines[2:] == ["Paris openai", "Paris is the capital."]


def test_a_task_and_an_actor_of_the_example_answer(llm: Cluster, tmp_path: pathlib.Path) -> None:
    said = [line for line in run_example(PYTHON, 1, tmp_path).splitlines() if "(raylet)" not in line]  # of its workers
    assert said[-2:] == ["Paris is the capital."] * 2


def test_the_agent_app_of_the_example_answers_by_handle_and_by_http(llm: Cluster, tmp_path: pathlib.Path) -> None:
    run_example(PYTHON, 2, tmp_path)

    async def by_handle() -> None:
        answer: Any = serve.get_app_handle("agents").answer.remote("What is the capital of France?")
        assert await answer == "Paris is the capital."

    try:
        asyncio.run(by_handle())
        question = {"question": "What is the capital of France?"}
        reply = eventually(lambda: _found(httpx2.post(f"{llm.url}/agents", json=question, timeout=30)))
        assert (reply.status_code, reply.text) == (200, "Paris is the capital.")
    finally:
        serve.delete("agents")


def _found(reply: httpx2.Response) -> httpx2.Response | None:
    return None if reply.status_code == 404 else reply  # HAProxy knows a new application a moment later


def test_a_task_and_an_actor_with_openais_sdk_are_answered_by_handle(llm: Cluster, tmp_path: pathlib.Path) -> None:
    assert run_example(PYTHON, 3, tmp_path).splitlines()[-2:] == ["Paris is the capital."] * 2


@pytest.mark.parametrize("page", WITH_CURLS)
def test_every_curl_works(llm: Cluster, page: str) -> None:
    for line in commands(page):
        if line.startswith("curl "):
            assert curl(line, base=llm.url).status == 200, line


def test_the_curls_are_where_a_reader_looks_for_them() -> None:
    assert {README, "docs/http-api.md", "docs/observability.md"} <= set(WITH_CURLS)
    for start in (
        "curl http://127.0.0.1:8000/v1/chat/completions",
        "curl -N http://127.0.0.1:8000/v1/chat/completions",
        "curl http://127.0.0.1:8000/v1/models",
        "curl http://127.0.0.1:8000/v1/providers",
        "curl -s http://127.0.0.1:8000/v1/requests/",
    ):
        assert command(start)


def test_the_check_command_reports(llm: Cluster) -> None:
    line = command("uv run python -m deployments.config").split()[2:]
    done = subprocess.run([sys.executable, *line[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "5. local (local): ready" in done.stdout

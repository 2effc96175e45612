"""`On a cluster` of docs/operations.md, run as it is written by somebody with an empty home folder.

`uv run pytest -m machine` runs this. Then come the agents: of other home folders, with the token and without.
"""

import pathlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.clients.environments import environment
from tests.cluster.conftest import ROOT, eventually
from tests.cluster.machine import Machine, new_machine
from tests.cluster.other_users import environment_of, prepare, said_to
from tests.cluster.test_other_users import check_refusal
from tests.readme import section

pytestmark = pytest.mark.machine

START, STOP = re.findall(
    r"^```bash\n(.*?)^```", section("docs/operations.md", "## On a cluster"), re.DOTALL | re.MULTILINE
)
FIRST_LINE = f". {ROOT}/deployments/ops/cluster.sh"
FETCH = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/readyz', timeout=5).status)"
# It calls once for each line that it reads. Ray prints here too.
CALLER = """
import json, sys
from breakwater import BreakwaterError, connect

llm = connect().sync
for _ in sys.stdin:
    try:
        print("said:", llm.generate_completion("What is the capital of France?", timeout=20)["response"], flush=True)
    except BreakwaterError as error:
        print("said:", type(error).__name__, error, flush=True)
"""


@dataclass(frozen=True)
class Served:
    machine: Machine
    home: pathlib.Path  # of the user who has followed the page
    python: str  # of an environment with Ray and none of our code
    page: str  # what the page's commands have printed

    def token(self) -> str:
        return (self.home / ".ray" / "auth_token").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    python = environment(tmp_path_factory.mktemp("agent") / "environment", "ray[serve]==2.60.0")
    with new_machine() as machine:
        page = machine.shell(START, home, ROOT)
        eventually(lambda: _ready(machine, home), 120)
        yield Served(machine, home, python, page)


def _ready(machine: Machine, home: pathlib.Path) -> bool:
    try:
        return "200" in machine.shell(f'{FIRST_LINE}\npython -c "{FETCH}"', home, ROOT)
    except AssertionError:
        return False


def test_the_page_serves_and_its_token_is_for_its_user_alone(served: Served) -> None:
    assert "llm:" in served.page
    assert (served.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_the_status_can_be_asked_for_in_any_folder(served: Served) -> None:
    said = served.machine.shell(f"{FIRST_LINE}\nserve status", served.home, pathlib.Path("/"))
    assert "status: RUNNING" in said


def test_an_agent_with_an_environment_and_a_home_of_its_own_is_answered(served: Served, tmp_path: pathlib.Path) -> None:
    said = said_to(tmp_path, None, served.token(), python=served.python, within=served.machine.command)
    assert said["answer"]


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_an_agent_without_the_token_is_told_what_to_do(
    served: Served, tmp_path: pathlib.Path, token: str | None
) -> None:
    said = said_to(tmp_path, None, token, python=served.python, within=served.machine.command)
    check_refusal(said, ":6379", "ray get-auth-token")


def test_a_connected_agent_hears_of_the_end_and_nothing_is_left(served: Served, tmp_path: pathlib.Path) -> None:
    prepare(tmp_path)
    with subprocess.Popen(
        served.machine.command(served.python, "-c", CALLER),
        env={**environment_of(tmp_path, served.token()), "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None

        def call() -> str:
            print(file=caller.stdin, flush=True)
            return next(line for line in caller.stdout if line.startswith("said: "))

        try:
            assert "Paris" in call()
            served.machine.shell(f"{FIRST_LINE}\n{STOP}", served.home, ROOT)
            assert call().startswith("said: Unavailable No Ray answers this process")
        finally:
            caller.kill()
    eventually(lambda: not served.machine.processes())

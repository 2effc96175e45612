"""A connection whose ends are of two versions, as in a rolling redeploy: each end is a process with its own code."""

import json
import pathlib
import pickle
import subprocess
import sys

import pytest

from tests.checkouts import EARLIER, LAST, ROOT, checkout
from tests.io.rpc_end import FRAMES, LONG

END = pathlib.Path(__file__).parent / "rpc_end.py"


@pytest.fixture(scope="module", params=[EARLIER, LAST])
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return checkout(request.param, tmp_path_factory.mktemp("versions"))


def said_by(ingress: pathlib.Path, replica: pathlib.Path) -> dict[str, object]:
    """What became of the calls between these checkouts."""

    def end(role: str, root: pathlib.Path) -> subprocess.Popen[bytes]:
        env = {"PYTHONPATH": str(root)}
        return subprocess.Popen(
            [sys.executable, "-P", str(END), role],
            cwd=END.parent, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    with end("ingress", ingress) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"ready\n"
        with end("replica", replica) as serving:
            assert serving.stdout is not None
            try:
                said, _ = asking.communicate(pickle.dumps(pickle.load(serving.stdout)), timeout=60)
            finally:
                asking.kill()
                serving.kill()
    return dict(json.loads(said))


@pytest.mark.parametrize("newer", ["ingress", "replica"])
def test_calls_between_two_versions_end_as_between_two_of_one(earlier: pathlib.Path, newer: str) -> None:
    ends = {"ingress": earlier, "replica": earlier, newer: ROOT}
    found = said_by(**ends)
    knows_parts = earlier.name != EARLIER
    assert found.pop("long") == (LONG if knows_parts else None), "an end that knows no parts got some"
    assert found == {
        "whole": "Paris",
        "streams": [[FRAMES + 1, {"prompt_tokens": 7}]] * 3,
        "broken": "unclassified",
    }
    alike = said_by(ROOT, ROOT)
    assert alike.pop("long") == LONG
    assert alike == found

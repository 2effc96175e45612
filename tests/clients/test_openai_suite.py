"""OpenAI's own tests of their Python client, which they run against a mock of their API, against ours.

They come with the source of the client that we pin. Its tests of chat, models and embeddings make
each call once, loosely and strictly typed, by the sync client and by the two async ones.
"""

import collections
import os
import pathlib
import re
import subprocess
import tarfile
import tomllib
import xml.etree.ElementTree as ElementTree

import pytest

from tests.clients.client import clean_environment, with_packages
from tests.cluster.conftest import ROOT, Cluster

pytestmark = pytest.mark.clients

NEEDS = ("pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-xdist==3.8.0", "rich==15.0.0")
FILES = ("chat", "test_models.py", "test_embeddings.py")
STORED = "stored completions: no such route, nothing is stored here"
# What can't pass, and why. The name is the test's without its class's flavour.
CANNOT = {
    r"Completions::test_\w+_with_all_params_overload_[12]": "asks for 0 tokens at most: a 400, as at OpenAI itself",
    r"Completions::test_(method|raw_response|streaming_response)_(retrieve|update|list|delete)\w*": STORED,
    r"Messages::test_(method|raw_response|streaming_response)_list\w*": STORED,
    r"Models::test_(method|raw_response|streaming_response)_delete": "DELETE of a model: the rows are in the config",
}


def openai_version() -> str:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [version] = [pin.removeprefix("openai==") for pin in pins if pin.startswith("openai==")]
    return version


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """OpenAI's source, unpacked."""
    folder = tmp_path_factory.mktemp("openai")
    name = f"openai-{openai_version()}"
    fetch = ["python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai"]
    done = subprocess.run(
        [*with_packages("pip==26.2"), *fetch, name.replace("-", "==")],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


def run(source: pathlib.Path, url: str, *more: str) -> dict[str, str]:
    """Test to `pass`, `FAIL` or `skip`."""
    report, folder = source.parent / "report.xml", source.parent
    tests = [str(source / "tests" / "api_resources" / file) for file in FILES]
    options = ["-c", str(source / "pyproject.toml"), "--rootdir", str(source), "-n", "0", "-q", f"--junitxml={report}"]
    done = subprocess.run(
        [
            *with_packages(f"openai[aiohttp]=={openai_version()}", *NEEDS),
            "python",
            "-m",
            "pytest",
            *options,
            *tests,
            *more,
        ],
        cwd=folder,
        env={**clean_environment(), "TEST_API_BASE_URL": f"{url}/v1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    (folder / "output.txt").write_text(done.stdout)
    return {_name(case): _mark(case) for case in ElementTree.parse(report).iter("testcase")}


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2].removeprefix('Test')}::{case.get('name')}"


def _mark(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "FAIL" if kinds & {"failure", "error"} else "skip" if "skipped" in kinds else "pass"


def why(test: str) -> str | None:
    bare = test.partition("[")[0].removeprefix("Async")
    return next((reason for pattern, reason in CANNOT.items() if re.fullmatch(pattern, bare)), None)


def test_openais_own_tests_pass_but_for_what_is_not_here(
    llm: Cluster, source: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    marks = run(source, llm.url)
    tables["openai"] = list(table(marks))
    unexplained = sorted(test for test, mark in marks.items() if mark == "FAIL" and why(test) is None)
    assert unexplained == [], os.linesep.join(unexplained)
    assert sorted(test for test, mark in marks.items() if mark == "pass" and why(test)) == []
    assert "pass" in marks.values()


def table(marks: dict[str, str]) -> "collections.abc.Iterator[str]":
    rows: dict[str, collections.Counter[str]] = {}
    for test, mark in marks.items():
        rows.setdefault(test.partition("[")[0].removeprefix("Async"), collections.Counter())[mark] += 1
    yield f"| openai {openai_version()}'s own test | passed | failed | why |"
    yield "|---|--:|--:|---|"
    for test, counted in rows.items():
        reason = why(test) if counted["FAIL"] else ""
        yield f"| {test} | {counted['pass']} | {counted['FAIL']} | {reason or ''} |"
    counted = collections.Counter(marks.values())
    yield f"| all | {counted['pass']} | {counted['FAIL']} | |"

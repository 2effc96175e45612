"""OpenAI's own tests of their Python client, which they run against a mock of their API, against ours.

They come with the source of the client that we pin. Its tests of chat, models and embeddings make
each call once, loosely and strictly typed, by the sync client and by the two async ones.
"""

import pathlib
import re
import subprocess
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from tests.clients.client import clean_environment, with_packages
from tests.cluster.conftest import ROOT, Cluster

pytestmark = pytest.mark.clients

NEEDS = ("pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-xdist==3.8.0", "rich==15.0.0")
FILES = ("chat", "test_models.py", "test_embeddings.py")
STORED = "stored completions: no such route, nothing is stored here"
BASE64 = "the client asks for base64, and when it is strict wants a list before it has decoded it"
# What can't pass, and why. `Async` is left out of the names.
CANNOT = {
    r"Completions::test_method_create_with_all_params_.*": "asks for at most 0 tokens: a 400",
    r"Completions::test_(method|raw_response|streaming_response)_(retrieve|update|list|delete)\b.*": STORED,
    r"Completions::test_method_list_with_all_params\b.*": STORED,
    r"Messages::test_(method|raw_response|streaming_response)_list\b.*": STORED,
    r"Messages::test_method_list_with_all_params\b.*": STORED,
    r"Models::test_(method|raw_response|streaming_response)_delete\b.*": "no such route: the rows are in the config",
    r"Embeddings::test_method_create_with_all_params\b.*": "asks for 1 dimension: a row has one length, this one 1536",
    r"Embeddings::test_(method|raw_response|streaming_response)_create\[(strict|aiohttp)\]": BASE64,
}


def openai_version() -> str:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [version] = [pin.removeprefix("openai==") for pin in pins if pin.startswith("openai==")]
    return version


@pytest.fixture
def source(tmp_path: pathlib.Path, archive: pathlib.Path) -> pathlib.Path:
    """OpenAI's source, unpacked. A test may change it."""
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
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
    return folder / f"{name}.tar.gz"


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
    bare = test.removeprefix("Async")
    return next((reason for pattern, reason in CANNOT.items() if re.fullmatch(pattern, bare)), None)


def test_openais_own_tests_pass_but_for_what_is_not_here(
    llm: Cluster, source: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    marks = run(source, llm.url)
    tables["openai"] = list(table(marks))
    failed = {test for test, mark in marks.items() if mark == "FAIL"}
    assert failed == {test for test in marks if why(test)}, "these fail unexplained, or are explained and pass"
    assert "pass" in marks.values()


def test_with_valid_values_openais_tests_of_all_parameters_pass(
    llm: Cluster, source: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    for file, invalid, valid in (
        ("chat/test_completions.py", r"\b(max_tokens|max_completion_tokens)=0,", r"\1=16,"),
        ("test_embeddings.py", r"\bdimensions=1,", "dimensions=1536,"),
    ):
        place = source / "tests" / "api_resources" / file
        text, changes = re.subn(invalid, valid, place.read_text())
        assert changes
        place.write_text(text)
    marks = run(source, llm.url, "-k", "create_with_all_params")
    tables["openai, valid"] = list(table(marks, ", with 16 tokens and 1536 dimensions"))
    assert set(marks.values()) == {"pass"}, marks


def table(marks: dict[str, str], what: str = "'s own test") -> Iterator[str]:
    rows: dict[str, Counter[str]] = {}
    reasons: dict[str, str] = {}
    for test, mark in marks.items():
        name = test.partition("[")[0].removeprefix("Async")
        rows.setdefault(name, Counter())[mark] += 1
        if mark == "FAIL":
            reasons[name] = why(test) or "?"
    yield f"| openai {openai_version()}{what} | passed | failed | why |"
    yield "|---|--:|--:|---|"
    for name, counted in rows.items():
        yield f"| {name} | {counted['pass']} | {counted['FAIL']} | {reasons.get(name, '')} |"
    counted = Counter(marks.values())
    yield f"| all | {counted['pass']} | {counted['FAIL']} | |"

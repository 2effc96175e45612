"""A vendor's own tests of its Python client, which it runs against a mock of its API, run against ours.

They come with the source of the client, from the package index; nothing of it is kept here. Each test makes a call
once, loosely and strictly typed, by the sync client and by the two async ones, and checks the answer's type.
"""

import re
import subprocess
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.clients.client import clean_environment, with_packages
from tests.cluster.conftest import ROOT

PYTEST = ("pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-xdist==3.8.0", "rich==15.0.0")


@dataclass(frozen=True)
class Suite:
    """`cannot` says why tests fail, by a pattern of their names. `Async` is left out of the names.

    `invalid` are values that no server takes from its client, and others in their place, by file.
    """

    package: str
    needs: tuple[str, ...]
    files: tuple[str, ...]
    cannot: Mapping[str, str]
    invalid: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version that we pin, for ourselves or for our tests."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        pins = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
        [version] = [pin.partition("==")[2] for pin in pins if pin.startswith(f"{self.package}==")]
        return version

    def download(self, folder: Path) -> Path:
        """Return the packed source."""
        fetch = ["python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", self.package]
        done = subprocess.run(
            [*with_packages("pip==26.2"), *fetch, f"{self.package}=={self.version}"],
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return folder / f"{self.package}-{self.version}.tar.gz"

    def unpack(self, archive: Path, folder: Path) -> Path:
        """Return the folder with the source. A test may change it."""
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        return folder / archive.name.removesuffix(".tar.gz")

    def make_valid(self, source: Path) -> None:
        """Put values that we take in the place of those that we refuse."""
        for file, changes in self.invalid.items():
            place = source / "tests" / "api_resources" / file
            text = place.read_text()
            for invalid, valid in changes.items():
                text, count = re.subn(invalid, valid, text)
                assert count, f"{file} has no {invalid}"
            place.write_text(text)

    def run(self, source: Path, url: str, *more: str) -> dict[str, str]:
        """Return `pass`, `FAIL` or `skip` of each test."""
        report, folder = source.parent / "report.xml", source.parent
        tests = [str(source / "tests" / "api_resources" / file) for file in self.files]
        options = ["-c", str(source / "pyproject.toml"), "--rootdir", str(source), "-n", "0", "-q"]
        packages = with_packages(f"{self.package}[aiohttp]=={self.version}", *PYTEST, *self.needs)
        done = subprocess.run(
            [*packages, "python", "-m", "pytest", *options, f"--junitxml={report}", *tests, *more],
            cwd=folder,
            env={**clean_environment(), "TEST_API_BASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        (folder / "output.txt").write_text(done.stdout)
        assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
        return {_name(case): _mark(case) for case in ElementTree.parse(report).iter("testcase")}

    def why(self, test: str) -> str | None:
        """Return why a test can't pass; None if it should."""
        bare = test.removeprefix("Async")
        return next((reason for pattern, reason in self.cannot.items() if re.fullmatch(pattern, bare)), None)

    def check(self, marks: Mapping[str, str]) -> None:
        """Assert that those tests fail that can't pass, and no other."""
        failed = {test for test, mark in marks.items() if mark == "FAIL"}
        assert failed == {test for test in marks if self.why(test)}, "fail unexplained, or are explained and pass"
        assert "pass" in marks.values()

    def table(self, marks: Mapping[str, str], what: str = "'s own test") -> Iterator[str]:
        rows: dict[str, Counter[str]] = {}
        reasons: dict[str, str] = {}
        for test, mark in marks.items():
            name = test.partition("[")[0].removeprefix("Async")
            rows.setdefault(name, Counter())[mark] += 1
            if mark == "FAIL":
                reasons[name] = self.why(test) or "?"
        yield f"| {self.package} {self.version}{what} | passed | failed | why |"
        yield "|---|--:|--:|---|"
        for name, counted in rows.items():
            yield f"| {name} | {counted['pass']} | {counted['FAIL']} | {reasons.get(name, '')} |"
        counted = Counter(marks.values())
        yield f"| all | {counted['pass']} | {counted['FAIL']} | |"


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2].removeprefix('Test')}::{case.get('name')}"


def _mark(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "FAIL" if kinds & {"failure", "error"} else "skip" if "skipped" in kinds else "pass"

"""What the look-up of vulnerabilities says: what was not checked never reads as passed."""

import pathlib
import re
from typing import Any

import pytest

from tests.audit import verdict

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}

ROOT = pathlib.Path(__file__).parents[2]


def test_each_promise_of_the_security_page_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "SECURITY.md").read_text()
    promises = re.findall(r"^\| [A-Z].* \|$", page, re.MULTILINE)
    assert len(promises) > 8
    for promise in promises:
        named = re.findall(r"`(tests/\S+\.py)`", promise)
        assert named, promise
        assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([GOOD], 0, "no known vulnerability in 1 of 1"),
        ([GOOD, BAD], 1, "b 2: PYSEC-1, mended in 2.1"),
        ([BAD, UNKNOWN], 1, "1 known vulnerabilities"),
        ([GOOD, UNKNOWN], 2, "not checked: c"),
        ([UNKNOWN], 2, "not checked: the advisory service knows none"),
        ([], 2, "not checked"),
    ],
)
def test_only_what_was_checked_passes(packages: list[dict[str, Any]], code: int, says: str) -> None:
    ended, said = verdict({"dependencies": packages})
    assert ended == code
    assert says in said

"""The codes that a client may act on are a closed list, and docs/http-api.md has it."""

import pathlib
import re

from tests.readme import section

ROOT = pathlib.Path(__file__).parents[2]
ROOMS = ("errors.py", "openai_api", "failover", "ingress", "usage")  # that speak to clients


def codes() -> set[str]:
    """Whatever is given as a code in the files that speak to clients."""
    places = [ROOT / "deployments" / name for name in ROOMS]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    text = "\n".join(file.read_text() for file in files)
    found = {m for groups in re.findall(r'\bcode = "(\w+)"|\bcode="(\w+)"', text) for m in groups if m}
    found |= set(re.findall(r'"(?:param|model|dimensions|input|messages|drop_unsupported)", "(\w+)"\)', text))
    found |= set(re.findall(r'refusal\.status, "(\w+)"', text))
    table = re.search(r"_CALLER_CODES = \{(.*?)\}", text, re.S)
    assert table is not None
    return found | set(re.findall(r': "(\w+)"', table.group(1))) | {"no_provider_available", "deadline_exceeded"}


def test_every_code_of_ours_is_in_the_table_of_errors() -> None:
    table = section("docs/http-api.md", "## Errors")
    said = codes()
    assert len(said) > 15
    assert {code for code in said if f"`{code}`" not in table} == set()

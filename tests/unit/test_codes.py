"""The codes that a client may act on are a closed list, and the README has it."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
FILES = ("errors", "wire", "rows", "door", "caller", "images", "attempt", "embeddings", "http_door")


def codes() -> set[str]:
    """Whatever is given as a code in the files that speak to clients."""
    text = "\n".join((ROOT / "deployments" / f"{name}.py").read_text() for name in FILES)
    found = {m for groups in re.findall(r'\bcode = "(\w+)"|\bcode="(\w+)"', text) for m in groups if m}
    found |= set(re.findall(r'"(?:param|model|dimensions|input|messages|drop_unsupported)", "(\w+)"\)', text))
    found |= set(re.findall(r'refusal\.status, "(\w+)"', text))
    table = re.search(r"_CALLER_CODES = \{(.*?)\}", text, re.S)
    assert table is not None
    return found | set(re.findall(r': "(\w+)"', table.group(1))) | {"no_provider_available", "deadline_exceeded"}


def test_every_code_of_ours_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("#### Errors") : readme.index("### Python")]
    said = codes()
    assert len(said) > 15
    assert {code for code in said if f"`{code}`" not in section} == set()

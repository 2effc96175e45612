"""The code blocks of the README and of docs/, so that tests run what they say as they say it."""

import os
import pathlib
import re
import shlex
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parents[1]


def _pythons() -> range:
    """Return the minor versions of Python 3 for which the project is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"])
    assert found is not None
    return range(int(found[1]), int(found[2]))


PYTHONS = _pythons()
README = "README.md"
PAGES = (README, *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


def blocks(language: str, page: str) -> list[str]:
    """Return the fenced blocks of one language on one page, in order."""
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def section(page: str, heading: str) -> str:
    """Return what stands under one heading of a page, up to the next heading of its level or above."""
    level = heading.partition(" ")[0]
    _, found, rest = f"\n{(ROOT / page).read_text()}".partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def commands(page: str) -> list[str]:
    """Return the shell commands of one page, in order. A command may go on over a backslash."""
    text = "\n".join(blocks("bash", page)).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def command(start: str) -> str:
    """Return the one command that starts so. Several pages may have it, if all have it in the same words."""
    [found] = {line for page in PAGES for line in commands(page) if line.startswith(start)}
    return found


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str


def curl(line: str, base: str | None = None) -> Reply:
    """What a curl command of a page gets. Sent without curl, which a small machine may not have."""
    words = [os.path.expandvars(word) for word in shlex.split(line)[1:]]
    url, method, headers, data = "", None, {}, None
    while words:
        word = words.pop(0)
        match word:
            case "-H":
                name, _, value = words.pop(0).partition(":")
                headers[name] = value.strip()
            case "-d":
                data = words.pop(0).encode()
            case "-X":
                method = words.pop(0)
            case "-N" | "-i" | "-s":
                pass
            case _:
                url = word
    if base is not None:
        url = url.replace("http://127.0.0.1:8000", base)
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Reply(response.status, dict(response.headers), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers), error.read().decode())

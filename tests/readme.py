"""The README's own code blocks, so that tests run what it says as it says it."""

import pathlib
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def command(start: str) -> str:
    """The one command of the README that starts so. A command may go on over a backslash."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    [found] = [line.strip() for line in text.splitlines() if line.strip().startswith(start)]
    return found


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str


def curl(line: str, base: str | None = None) -> Reply:
    """What a curl command of the README gets. Sent without curl, which a small machine may not have."""
    words = shlex.split(line)[1:]
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

"""A program of another user: a home folder, an environment and a copy of client.py of its own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.cluster.conftest import ROOT

# What a Python program reads and Ray does not.
KEPT = ("PATH", "LANG")
PROGRAM = """
import json, sys, time
from breakwater import BreakwaterError, connect

began, said = time.monotonic(), {}
try:
    said["answer"] = connect(sys.argv[1]).sync.generate_completion("Hi", timeout=20)["response"]
except BreakwaterError as error:
    said.update({"class": type(error).__name__, "status": error.status, "message": str(error)})
print(json.dumps({**said, "seconds": time.monotonic() - began}))
"""


def environment_of(home: pathlib.Path, token: str | None, **more: str) -> dict[str, str]:
    """Return the environment of a user; `token` is what the home folder's file says."""
    file = home / ".ray" / "auth_token"
    file.unlink(missing_ok=True)
    if token is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(token)
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return {**kept, "HOME": str(home), "RAY_AUTH_MODE": "token", **more}


def prepare(home: pathlib.Path) -> None:
    shutil.copy(ROOT / "deployments" / "client.py", home / "breakwater.py")


def as_it_is(*words: str) -> list[str]:
    return list(words)


def said_to(
    home: pathlib.Path,
    address: str | None,
    token: str | None,
    app: str = "llm",
    python: str = sys.executable,
    within: Callable[..., list[str]] = as_it_is,
    **more: str,
) -> dict[str, Any]:
    """Return what becomes of a program's first call: an answer, or an error, and the seconds that it took."""
    prepare(home)
    joined = {} if address is None else {"RAY_ADDRESS": address}
    done = subprocess.run(
        within(python, "-c", PROGRAM, app),
        cwd=home,
        env=environment_of(home, token, PYTHONPATH=str(home), **joined, **more),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))

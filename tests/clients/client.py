"""A client that is not ours: a process with an environment of its own, that is told a task a line."""

import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

HERE = pathlib.Path(__file__).parent
PATIENCE = 90.0  # seconds for one task; the first of a process pays for its imports


class Missing(Exception):
    """A program that the client needs is not on this machine."""


class Client:
    """One process. `ask` gives what its script said of a task."""

    def __init__(self, name: str, command: Sequence[str], folder: pathlib.Path):
        self.name = name
        self._log = folder / "stderr.log"
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def ask(self, task: str, url: str, model: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, "url": f"{url}/v1", "model": model}) + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=PATIENCE)
        assert line, f"the client has ended: {self._log.read_text()[-2000:]}"
        said: dict[str, Any] = json.loads(line)
        assert "failed" not in said, said["failed"]
        return said

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the end of its tasks
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)


def clean_environment() -> dict[str, str]:
    """Without what would lead a client to our environment, or to another server than the one it is told."""
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("ANTHROPIC_", "CLAUDE", "CODEX_"))
    }


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def with_packages(*packages: str) -> list[str]:
    """The start of a command that runs with these Python packages and none of ours."""
    wanted = [word for package in packages for word in ("--with", package)]
    return [program("uv"), "run", "--no-project", *wanted]


def python(script: str, packages: Sequence[str], folder: pathlib.Path) -> list[str]:
    name, *arguments = script.split()
    return [*with_packages(*packages), "python", str(HERE / name), *arguments]


def npm_install(folder: pathlib.Path, *packages: str, seconds: float = 300) -> None:
    """Install packages of npm into a folder. Raises Missing where npm is not there."""
    install = [program("npm"), "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr


def node(script: str, packages: Sequence[str], folder: pathlib.Path) -> list[str]:
    npm_install(folder, *packages)
    shutil.copy(HERE / script, folder)  # Node looks for packages beside the script
    return [program("node"), script]


LANGCHAIN = ("langchain-anthropic==1.7.10", "langchain-openai==1.7.4", "openai==3.57.0", "anthropic==2.14.0")
Language = Callable[[str, Sequence[str], pathlib.Path], list[str]]
CLIENTS: Mapping[str, tuple[Language, str, Sequence[str]]] = {
    # Both had a next major version that wants Node 22.
    "openai-node": (node, "with_openai_node.mjs", ("openai@6.49.0", "zod@4.6.7")),
    "ai-sdk": (node, "with_ai_sdk.mjs", ("ai@6.0.324", "@ai-sdk/openai-compatible@2.0.91", "zod@4.6.7")),
    "pydantic-ai": (python, "with_pydantic_ai.py", ("pydantic-ai-slim==2.62.0", "openai==3.54.0")),
    # The clients of Responses and of Messages.
    "openai-responses": (python, "with_openai_responses.py", ("openai==3.57.0",)),
    "agents-sdk": (python, "with_agents_sdk.py", ("openai-agents==0.24.0", "openai==3.57.0")),
    "anthropic": (python, "with_anthropic.py", ("anthropic==2.14.0",)),
    "anthropic-node": (node, "with_anthropic_node.mjs", ("@anthropic-ai/sdk@1.14.0",)),
    "langchain-anthropic": (python, "with_langchain.py anthropic", LANGCHAIN),
    "langchain-responses": (python, "with_langchain.py openai", LANGCHAIN),
}


def started_client(name: str, folder: pathlib.Path) -> Client:
    """Installs what the client needs into the folder. Raises Missing."""
    language, script, packages = CLIENTS[name]
    return Client(name, language(script, packages, folder), folder)

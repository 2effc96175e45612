"""Coding agents that people use, without a login and with Breakwater as their only server.

Each is installed once, at a fixed version, into a cache folder of its own: they are some 300 MB.
"""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.clients.client import Missing, clean_environment, npm_install, program

PROMPT = "Open the gate in notes.txt, then copy the file to copy.txt."
PATIENCE = 180.0  # seconds for one task; the first start of a program reads 300 MB from the disk
CODEX_CONFIG = """\
model_provider = "breakwater"
[model_providers.breakwater]
name = "Breakwater"
base_url = "{url}/v1"
env_key = "BREAKWATER_KEY"
wire_api = "responses"
"""


@dataclass(frozen=True)
class Ran:
    """What an agent said of its task. `text` is its last message."""

    code: int
    text: str
    log: str


@dataclass(frozen=True)
class Agent:
    """`models` are names by which it offers different tools; behind the name stands that of a row."""

    package: str
    models: tuple[str, ...]
    start: Callable[[pathlib.Path, pathlib.Path, str, str], tuple[list[str], dict[str, str]]]
    go_on: tuple[str, ...]  # the options of a run that goes on where the last one has stopped
    read: Callable[[pathlib.Path, str], str]

    def run(self, home: pathlib.Path, work: pathlib.Path, url: str, model: str, *, again: bool = False) -> Ran:
        """Give it the task in the folder `work`, or let it go on with the last one. Raises Missing."""
        command, variables = self.start(installed(self.package), home, url, model)
        done = subprocess.run(
            [*command, *(self.go_on if again else (PROMPT,))],
            cwd=work,
            env={**clean_environment(), "HOME": str(home), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        log = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return Ran(done.returncode, self.read(home, done.stdout) if done.returncode == 0 else "", log)


def installed(package: str) -> pathlib.Path:
    """Return the folder with a package of npm, which is installed if it is not there. Raises Missing."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "breakwater-clients" / package.replace("/", "+")
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm_install(folder, package, seconds=600)
        (folder / "whole").touch()
    return folder / "node_modules"


def start_codex(modules: pathlib.Path, home: pathlib.Path, url: str, model: str) -> tuple[list[str], dict[str, str]]:
    """It runs commands without a sandbox here: its own needs rights that a container may lack."""
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=url))
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--model", model]
    options += ["--output-last-message", str(home / "last")]
    command = [program("node"), str(modules / "@openai/codex/bin/codex.js"), "exec", *options]
    return command, {"BREAKWATER_KEY": "none"}


def start_claude_code(
    modules: pathlib.Path, home: pathlib.Path, url: str, model: str
) -> tuple[list[str], dict[str, str]]:
    """The program of this machine, beside the script that npm would have to be allowed to run."""
    found = sorted((modules / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        raise Missing("Claude Code has no program for this machine")
    options = ["--model", model, "--output-format", "json", "--allowedTools", "Read,Edit,Bash"]
    variables = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return [str(found[0]), *options, "-p"], variables


def read_codex(home: pathlib.Path, output: str) -> str:
    return (home / "last").read_text()


def read_claude_code(home: pathlib.Path, output: str) -> str:
    said = json.loads(output)
    return "" if said["is_error"] else str(said["result"])


AGENTS: Mapping[str, Agent] = {
    # A known model has `apply_patch` as a custom tool, a newer one writes scripts, another has functions alone.
    "codex": Agent(
        "@openai/codex@0.171.0",
        ("gpt-5.5-", "gpt-5.6-sol-", ""),
        start_codex,
        ("resume", "--last", "Go on."),
        read_codex,
    ),
    # The system role stands among the messages for any model but haiku.
    "claude-code": Agent(
        "@anthropic-ai/claude-code@2.1.197",
        ("claude-opus-4-8-", "claude-haiku-4-5-"),
        start_claude_code,
        ("Go on.", "--continue"),
        read_claude_code,
    ),
}

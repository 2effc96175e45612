"""The scripts for shells: they are valid, make the word `breakwater`, and complete it."""

import os
import shutil
import subprocess

import pytest

from tests.cli.conftest import Run
from tests.cli.served import Book

ASK = """
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
compopt() {{ echo "opt $*"; }}
_breakwater_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def scripts(run: Run) -> dict[str, str]:
    return {shell: run("completion", shell).out for shell in ("bash", "zsh", "fish")}


def bash(script: str, *options: str, env: dict[str, str] | None = None) -> str:
    words = ["bash", "--norc", "--noprofile", *options, "-c", script]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **(env or {})}
    )
    assert done.stderr == ""
    return done.stdout


def completed(scripts: dict[str, str], words: str) -> list[str]:
    return bash(scripts["bash"] + ASK.format(words=words)).split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_that_its_shell_takes(scripts: dict[str, str], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=scripts[shell], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_options_and_their_values_are_completed(scripts: dict[str, str], book: Book) -> None:
    assert completed(scripts, "breakwater re") == ["recover", "requests", "reset", "restore"]
    assert "--slower-than" in completed(scripts, "breakwater requests --s")
    assert completed(scripts, "breakwater requests --outcome fa") == ["failed"]
    assert completed(scripts, "breakwater usage --by tenant,mo") == ["tenant,model"]
    assert completed(scripts, "breakwater completion ''") == ["bash", "zsh", "fish"]
    assert completed(scripts, "breakwater status --key-file ''")[0] == "opt"


def test_providers_and_thresholds_are_those_of_the_server(scripts: dict[str, str], book: Book) -> None:
    assert completed(scripts, "breakwater isolate ''") == ["aws_bedrock", "openai", "google"]
    assert completed(scripts, "breakwater restore aws") == ["aws_bedrock"]
    assert completed(scripts, "breakwater thresholds --unset fail") == ["failure_threshold"]
    assert completed(scripts, "breakwater thresholds --set fail") == ["failure_threshold="]


def test_a_server_that_is_away_completes_nothing_and_says_nothing(
    scripts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKWATER_URL", "http://127.0.0.1:1")
    assert completed(scripts, "breakwater isolate ''") == []


def test_the_script_makes_the_word_breakwater_in_every_folder(scripts: dict[str, str], book: Book) -> None:
    said = bash(f"cd /; {scripts['bash']} breakwater status")
    assert said.startswith("degraded: openai answers first\n")


def test_a_function_and_an_alias_of_ones_own_stay_and_are_completed(scripts: dict[str, str]) -> None:
    own = 'breakwater() { echo "mine $*"; }\n'
    assert bash(f"{own}{scripts['bash']}breakwater status\ncomplete -p breakwater") == (
        "mine status\ncomplete -o nosort -F _breakwater_completion breakwater\n"
    )
    alias = "shopt -s expand_aliases\nalias breakwater='echo mine'\n"
    assert (
        bash(f"{alias}eval \"$SCRIPT\"\neval 'breakwater status'", env={"SCRIPT": scripts["bash"]}) == "mine status\n"
    )

"""docs/cli.md: each command is there, and its output is what the command prints."""

import re
import shlex

import pytest

from deployments.cli.program import program
from tests.cli.conftest import Run
from tests.cli.served import Book
from tests.readme import ROOT, blocks, section

PAGE = "docs/cli.md"
SHOWN = [block.partition("\n") for block in blocks("console", PAGE)]


def test_every_command_has_its_heading() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / PAGE).read_text(), flags=re.MULTILINE)
    named = {name for heading in headings for name in heading.split(", ")}
    assert program.commands.keys() - named == {"completion"}  # which comes before all others


@pytest.mark.parametrize(
    ("line", "said"), [(line, said) for line, _, said in SHOWN], ids=[line for line, _, _ in SHOWN]
)
def test_the_page_shows_what_is_printed(run: Run, book: Book, line: str, said: str) -> None:
    dollar, word, *arguments = shlex.split(line)
    assert (dollar, word) == ("$", "breakwater")
    assert run(*arguments).out == said


def test_the_exit_codes_of_the_help_and_the_page_are_the_same() -> None:
    assert program.help is not None
    told = " ".join(program.help.split())
    codes = re.findall(r"^\| (\d+) \|", section(PAGE, "## Exit codes"), flags=re.MULTILINE)
    assert codes == re.findall(r"(?<=[ ,])(\d+) (?=[a-z]|Ctrl-C)", told.partition("Exit codes:")[2])

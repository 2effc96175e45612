"""All commands as one program, and what becomes of each way to end: one sentence, and an exit code."""

import contextlib
import io
import os
import sys
from collections.abc import Sequence

import click

from deployments.cli.commands.alerts import alerts
from deployments.cli.commands.completion import completion
from deployments.cli.commands.explain import explain
from deployments.cli.commands.limits import limits
from deployments.cli.commands.operate import isolate, recover, reset, restore
from deployments.cli.commands.providers import providers
from deployments.cli.commands.requests import requests
from deployments.cli.commands.status import status
from deployments.cli.commands.thresholds import thresholds
from deployments.cli.commands.traffic import traffic
from deployments.cli.commands.usage import usage
from deployments.cli.server.errors import CLOSED_PIPE, INTERRUPTED, WRONG_USAGE, CliError
from deployments.cli.server.options import common_options
from deployments.cli.terminal.printing import tell

PROGRAM, COMPLETE = "breakwater", "_BREAKWATER_COMPLETE"
HELP = """Ask a running Breakwater, and command it, by its HTTP API.

The key is in BREAKWATER_ADMIN_KEY or BREAKWATER_KEY, or in a file that --key-file names; it is never an argument.
The server is at --url or BREAKWATER_URL.

\b
Exit codes: 0 done, 1 bad news (status: unhealthy; alerts: one fires),
2 wrong usage, 3 the server can't be reached, 4 the key is refused,
5 any other error, 130 Ctrl-C, 141 nobody reads the output.

`completion bash` prints a script that makes the word `breakwater` of all this, and completes it:

\b
    eval "$(uv run python -m deployments.cli completion bash)"
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@common_options
def program(**_: object) -> None:
    """Options that stand ahead of a command are read by `asking_of`."""


for command in (
    *(status, requests, explain, usage, limits, traffic, alerts, providers),
    *(isolate, restore, recover, reset, thresholds, completion),
):
    program.add_command(command)


def main(arguments: Sequence[str]) -> int:
    """Do a command, and return its exit code. No error shows a stack."""
    if sys.stdout is None or sys.stderr is None:  # the shell's `>&-`
        return CLOSED_PIPE
    _never_fail_to_encode()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_the_pipe()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        if COMPLETE in os.environ:
            program.main(list(arguments), PROGRAM, COMPLETE)  # it ends with SystemExit
        # Not by `main`, which takes the error of a closed pipe for itself.
        with program.make_context(PROGRAM, list(arguments)) as context:
            return _code(program.invoke(context))
    except click.exceptions.Exit as error:  # behind --help
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        tell(f"{error.format_message().rstrip('.')}.")
        return WRONG_USAGE
    except click.Abort:
        return INTERRUPTED
    except CliError as error:
        tell(str(error))
        return error.code
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except SystemExit as error:  # a completion is done
        return _code(error.code)
    except OSError as error:
        tell(f"The output can't be written: {error}.")
        return CliError.code
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        tell(f"The server's answer is not what this command expects ({why}). --json prints it as it is.")
        return CliError.code


def _code(value: object) -> int:
    return value if isinstance(value, int) else 0


def _never_fail_to_encode() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _leave_the_pipe() -> None:
    """Have nothing written when Python ends: it would complain of the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

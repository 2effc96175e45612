"""What every command takes: which server, by which key, for how long, and in which form.

A key is no argument, because all users of a machine see the arguments of its processes.
"""

import functools
import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

import click

from deployments.cli.server import times
from deployments.cli.server.client import Answer, Secret, Server
from deployments.cli.terminal.printing import pass_on
from deployments.cli.terminal.text import clean

URL, KEY, ADMIN_KEY = "BREAKWATER_URL", "BREAKWATER_KEY", "BREAKWATER_ADMIN_KEY"
DEFAULT_URL, DEFAULT_SECONDS = "http://127.0.0.1:8000", 10.0
LONGEST_KEY, LONGEST_NAME = 1024, 100

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Asking:
    """`as_json`: what the server said is printed as it is."""

    server: Server
    as_json: bool

    def printed(self, answer: Answer) -> bool:
        """Print the answer as it is, if that is wanted. Return whether it was."""
        if self.as_json:
            pass_on(answer.body)
        return self.as_json


def asks(command: Callable[Concatenate[Asking, P], Any]) -> Callable[..., Any]:
    """Give a command the options of all, and an Asking as its first argument."""

    @functools.wraps(command)
    def with_server(*arguments: Any, **given: Any) -> Any:
        common = {name: given.pop(name) for name in ("url", "key_file", "timeout", "as_json")}
        return command(asking_of(common), *arguments, **given)

    return common_options(with_server)


def changes(command: Callable[Concatenate[Asking, P], Any]) -> Callable[..., Any]:
    """Do the same for a command that changes something: the server notes who it was."""

    @functools.wraps(command)
    def with_operator(*arguments: Any, **given: Any) -> Any:
        operator = given.pop("operator")
        common = {name: given.pop(name) for name in ("url", "key_file", "timeout", "as_json")}
        return command(asking_of(common, operator_of(operator)), *arguments, **given)

    named = click.option("--as", "operator", metavar="NAME", help="Who does this, for the record; else USER@HOST.")
    return common_options(named(with_operator))


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    url = click.option("--url", metavar="URL", help=f"The server, a path included; else {URL}, or {DEFAULT_URL}.")
    key_file = click.option(
        "--key-file",
        type=click.File("r"),
        help=f"A file with the key, or - for standard input; else {ADMIN_KEY}, or {KEY}.",
    )
    seconds = click.FloatRange(0.1, 600)
    timeout = click.option(
        "--timeout", type=seconds, metavar="SECONDS", help=f"How long to wait for an answer; else {DEFAULT_SECONDS:g}."
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print what the server said, as it is.")
    return url(key_file(timeout(as_json(command))))


def asking_of(given: dict[str, Any], operator: str = "") -> Asking:
    """Return whom to ask. What stands behind the command goes before what stands ahead of it."""
    ahead: dict[str, Any] = click.get_current_context().find_root().params
    told = {name: given.get(name) or ahead.get(name) for name in ("url", "key_file", "timeout", "as_json")}
    url = url_of(told["url"] or os.environ.get(URL) or DEFAULT_URL)
    server = Server(url, key_of(told["key_file"]), told["timeout"] or DEFAULT_SECONDS, operator)
    click.get_current_context().call_on_close(server.close)
    return Asking(server, bool(told["as_json"]))


def url_of(text: str) -> str:
    """Return the server's URL without a slash at its end, and without OpenAI's `/v1`."""
    try:
        parts = urlsplit(text.strip())
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not text.strip().isprintable() or " " in text.strip():
        raise click.UsageError("The server's URL must begin with http:// or https://, and name a host.")
    if parts.username is not None or parts.password is not None:
        raise click.UsageError("The server's URL may hold no user and no password.")
    if parts.query or parts.fragment:
        raise click.UsageError("The server's URL may hold no ? and no #.")
    return text.strip().rstrip("/").removesuffix("/v1")


def key_of(file: IO[str] | None) -> Secret | None:
    """Return the key to send. The admin key sees all, so it goes before a caller's."""
    if file is not None:
        try:
            text = file.read(LONGEST_KEY + 2)
        except (OSError, UnicodeDecodeError):
            raise click.UsageError("The file of the key can't be read as text.") from None
        return _secret(text, "--key-file")
    for name in (ADMIN_KEY, KEY):
        if text := os.environ.get(name, "").strip():
            return _secret(text, name)
    return None


def _secret(text: str, source: str) -> Secret:
    key = text.strip()
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise click.UsageError(f"{source} does not hold one key, on one line.")
    return Secret(key, source)


def operator_of(name: str | None) -> str:
    """Return the name under which the server notes a change."""
    if name is not None and clean(name) != name:
        raise click.UsageError("--as needs a name without control characters.")
    if name is not None and not name.strip():
        raise click.UsageError("--as needs a name.")
    return clean((name or "").strip() or f"{_user()}@{socket.gethostname()}")[:LONGEST_NAME]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid{os.getuid()}"


class Instant(click.ParamType[str]):
    """An instant, as the server reads it."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return times.instant(str(value), datetime.now(UTC))
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


class Span(click.ParamType[timedelta]):
    """A span of time."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return value if isinstance(value, timedelta) else times.span(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Milliseconds(click.ParamType[float]):
    """A time of an answer."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return times.milliseconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)

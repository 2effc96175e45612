"""Make an API key.

    python -m deployments.ops.key --name alice --tenant acme --scopes chat,usage --expires 90d >> keys.jsonl

prints the key once, to the terminal (stderr), and its line for `auth.keys_file`, which has only its hash.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from deployments.errors import ConfigError
from deployments.keys.file import KeyLine
from deployments.keys.key import SCOPES, digest_of
from deployments.ops.spans import span_of

PREFIX = "bw-"  # so that a scanner of secrets can know it


def make_key() -> str:
    """Return a new key, of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def expiry(text: str, now: datetime) -> datetime:
    """Return the end of `90d`, `12h` or `30m` from now, or of an ISO date (UTC). Raises ValueError."""
    if (span := span_of(text)) is not None:
        at = now + span
    else:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at <= now:
        raise ValueError("it is in the past")
    return at.replace(microsecond=0)


def line_of(
    key: str, name: str, tenant: str | None, scopes: str | None, expires: datetime | None, tags: str | None = None
) -> str:
    """Return the key's line for the keys file. Raises ConfigError or ValueError for what the file may not hold."""
    fields = {
        "name": name,
        "tenant": tenant,
        "sha256": digest_of(key).hex(),
        "scopes": None if scopes is None else [scope.strip() for scope in scopes.split(",")],
        "tags": None if tags is None else [tag.strip() for tag in tags.split(",")],
        "expires": None if expires is None else expires.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    line = json.dumps({field: value for field, value in fields.items() if value is not None})
    KeyLine.model_validate_json(line).entry("the key")
    return line


def main(arguments: list[str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """Print a new key and its line, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.ops.key", description="Make an API key.")
    parser.add_argument("--name", required=True, help="in usage and limits")
    parser.add_argument("--tenant", help="the only tenant that the key may name; without it: any")
    parser.add_argument("--scopes", help=f"some of {','.join(sorted(SCOPES))}; without it: all")
    parser.add_argument("--expires", help="90d, 12h, 30m, or an ISO date (UTC); without it: never")
    parser.add_argument("--tags", help="of the targets that may serve it, as eu,no-train; without it: any target")
    given, key = parser.parse_args(arguments), make_key()
    try:
        expires = None if given.expires is None else expiry(given.expires, now())
        line = line_of(key, given.name, given.tenant, given.scopes, expires, given.tags)
    except (ConfigError, ValueError) as error:
        print(f"no key was made: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"The key, which is shown only now:\n{key}\nIts line for auth.keys_file:", file=sys.stderr, flush=True)
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

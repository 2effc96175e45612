"""The keys file: one JSON object a line, with the SHA-256 of a key and not the key. `#` begins a comment line.

    {"name": "alice", "tenant": "acme", "sha256": "9f86d0...", "scopes": ["chat"], "expires": "2027-02-27T00:00:00Z"}

`python -m deployments.ops.key` makes such lines. `tenant`, `scopes` (all), `expires` (never) and `tags` (none) may be
left out.
"""

import hashlib
import os
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.errors import ConfigError
from deployments.keys.key import SCOPES, Entry, Key, KeyScope, check_name
from deployments.validation import NO_TAG, TAG

MOST_BYTES = 1024 * 1024  # some 5,000 keys, which are read in about 50 ms; the replica does nothing else meanwhile
Stamp = tuple[int, int, int]


class KeyLine(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1)]
    tenant: Annotated[str, Field(min_length=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[KeyScope], Field(min_length=1)] | None = None
    expires: datetime | None = None  # without an offset: UTC
    tags: Annotated[list[Annotated[str, Field(pattern=f"^{TAG}$")]], Field(min_length=1)] | None = None

    def entry(self, place: str) -> Entry:
        """Return the key that the line names. Raises ConfigError."""
        for name in (self.name, self.tenant):
            check_name(name, place)
        scopes = SCOPES if self.scopes is None else frozenset(self.scopes)
        expires = None if self.expires is None else _seconds(self.expires)
        key = Key(self.name, self.tenant, scopes, expires, frozenset(self.tags or ()))
        return Entry(place, bytes.fromhex(self.sha256), key, filed=True)


def _seconds(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def stamp_of(path: str) -> Stamp | None:
    """Return what changes whenever the file is written or replaced; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(path: str) -> list[Entry]:
    """Return the keys of a file. Raises ConfigError with the number of the line, and never its text.

    A file without a key is an error: it is being written, or was emptied by mistake.
    """
    place = f"auth.keys_file: {path}"
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        # A path that leads nowhere may be a key that was written into the wrong place.
        raise ConfigError(f"auth.keys_file: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{place}: it has more than {MOST_BYTES} bytes")
    lines = ((number, line.strip()) for number, line in enumerate(data.splitlines(), 1))
    entries = [_parse_line(f"{place}, line {number}", line) for number, line in lines if line and line[:1] != b"#"]
    if not entries:
        raise ConfigError(f"{place}: it has no key")
    return entries


def _parse_line(place: str, line: bytes) -> Entry:
    try:
        parsed = KeyLine.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "".join(f"{part}: " for part in first["loc"][:1] if part in KeyLine.model_fields)
        raise ConfigError(f"{place}: {key}{_reason(key, first['type'], first['msg'])}") from None
    if parsed.sha256 == hashlib.sha256(b"").hexdigest():
        raise ConfigError(f"{place}: sha256: it is that of an empty key")
    return parsed.entry(place)


def _reason(key: str, kind: str, message: str) -> str:
    """Return what is wrong in words that hold nothing of the line, in which a key may stand by mistake."""
    match kind:
        case "json_invalid":
            return "not JSON"
        case "extra_forbidden":
            return f"an unknown field (known: {', '.join(KeyLine.model_fields)})"
        case "string_pattern_mismatch" if key == "tags: ":
            return f"each {NO_TAG}"
        case "string_pattern_mismatch":
            return "64 digits of 0 to 9 and a to f are needed"
        case "missing":
            return "it is missing"
        case "literal_error":
            return f"each must be one of {', '.join(sorted(SCOPES))}"
    return f"{message[:1].lower()}{message[1:]}"

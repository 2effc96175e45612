"""Any list of keys and any keys file: what is taken is told apart, and what is refused is not repeated."""

import hashlib
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.config.settings import Auth
from deployments.errors import ConfigError
from deployments.keys.file import read_file
from deployments.service.auth import Authenticator

WORDS = st.sampled_from(["a", "b", "c", " a ", "b\n", ""]) | st.text(st.sampled_from("ab:, \té\0-"), max_size=4)
PARTS = st.lists(WORDS, min_size=1, max_size=4).map(":".join)
USUAL = ["k1", "k2", "k3", "k1:acme", "k2:acme:x", "k3:acme:x", "k4:beta:x", "k5::x", "k6::x", "k1::y", "k7:acme:x:y"]
ENTRIES = st.lists(st.sampled_from(USUAL) | PARTS, min_size=1, max_size=5)
ENTRIES |= st.lists(st.sampled_from(USUAL[:-1]), min_size=1, max_size=4, unique=True)
ENTRIES |= st.lists(st.sampled_from(["k5::x", "k6::x", "k7::x", "k2:acme:x", "k7:acme:x:y"]), min_size=1, unique=True)


def tried(read: Callable[[], Any]) -> tuple[Any, str]:
    """What was read, or why it was refused."""
    try:
        return read(), ""
    except ConfigError as error:
        return None, str(error)


@given(entries=ENTRIES, at=st.none() | st.integers(0, 4), part=st.integers(0, 3))
def test_a_list_is_taken_as_meant_or_refused_and_not_repeated(entries: list[str], at: int | None, part: int) -> None:
    if at is not None:  # in the place of a key, or by mistake in another
        parts = entries[at % len(entries)].split(":")
        parts[part % len(parts)] += "sk-SECRET"
        entries[at % len(entries)] = ":".join(parts)
    text = ",".join(entries)
    known, refused = tried(lambda: Authenticator(Auth(api_keys_env="KEYS"), {"KEYS": text}))
    assert "SECRET" not in refused
    if known is None:
        return
    listed = [entry for entry in text.split(",") if entry.strip()]
    assert len(known._ring.keys or ()) == len(listed), "each entry is a key of its own"
    accounts: dict[str, list[str | None]] = {}
    for entry in listed:
        secret, *words = (word.strip() for word in entry.split(":"))
        assert len(words) <= 2
        key = known.key(f"Bearer {secret}")
        assert key is not None
        assert key.tenant == ((words[0] if words else "") or None)
        accounts.setdefault(key.name, []).append(key.tenant)
    for tenants in accounts.values():
        assert tenants == [None] or (None not in tenants and len(set(tenants)) == 1), "an account is one tenant's"


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["alice", "bob", "", "a:b", "a\0"]) | st.none() | st.integers(),
        "tenant": st.sampled_from(["acme", "beta", "", "a:b"]) | st.none() | st.lists(st.none()),
        "sha256": st.sampled_from([hashlib.sha256(b"k").hexdigest(), "K" * 64, "SECRET", ""]) | st.integers(),
        "scopes": st.lists(st.sampled_from(["chat", "usage", "rows", "SECRET"])) | st.none() | st.just("SECRET"),
        "expires": st.sampled_from(["2030-01-01", "SECRET", "9" * 400, "0001-01-01T00:00:00+14:00"])
        | st.none()
        | st.floats()
        | st.integers(),
        "SECRET": st.just("SECRET"),
    },
)
LINES = st.lists(FIELDS.map(json.dumps) | st.sampled_from(["", "# note", "SECRET", "[]", "{", '"SECRET"']), max_size=4)


@given(lines=LINES, noise=st.binary(max_size=8))
def test_a_keys_file_is_read_or_refused_as_a_config_error(lines: list[str], noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "keys")
        path.write_bytes("\n".join(lines).encode() + noise)
        found, refused = tried(lambda: read_file(str(path)))
    assert "SECRET" not in refused
    assert refused or all(entry.key.scopes for entry in found)

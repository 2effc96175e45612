"""All keys of an application, of its environment and its keys file, as one ring. Pure but for the reading.

No message of an error repeats what stands in the environment: where parts are mixed up, any of them may be the key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deployments.errors import ConfigError
from deployments.keys.file import read_file
from deployments.keys.key import Entry, Key, check_name, check_secret, digest_of


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The holders of keys by the hashes of these, and the hash of the operators' key."""

    keys: Mapping[bytes, Key] | None  # None: no key is needed
    admin: bytes | None  # None: the operators' routes are off


@dataclass(frozen=True, slots=True)
class KeySources:
    """Where keys are: the names of two environment variables, and the path of a file."""

    api_keys_env: str | None = None
    admin_key_env: str | None = None
    keys_file: str | None = None

    def read(self, environ: Mapping[str, str]) -> KeyRing:
        """Return all keys. Raises ConfigError, which names the place."""
        entries = [] if self.api_keys_env is None else parse_list(self.api_keys_env, _value(self.api_keys_env, environ))
        if self.keys_file is not None:
            entries += read_file(self.keys_file)
        needed = self.api_keys_env is not None or self.keys_file is not None
        keys = _distinct(entries) if needed else None
        return KeyRing(keys, self._admin(environ, keys or {}))

    def _admin(self, environ: Mapping[str, str], keys: Mapping[bytes, Key]) -> bytes | None:
        if self.admin_key_env is None:
            return None
        admin, place = _value(self.admin_key_env, environ), f"auth.admin_key_env: {self.admin_key_env}"
        check_secret(admin, place)
        if digest_of(admin) in keys:
            raise ConfigError(f"{place}: the admin key is an API key too")
        return digest_of(admin)


def _value(variable: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable, "")
    if not value.strip():
        raise ConfigError(f"auth: {variable} is not set")
    return value


def parse_list(variable: str, text: str) -> list[Entry]:
    """Return the keys of a variable: `key`, `key:tenant` or `key:tenant:name`, separated by commas."""
    given = [(number, entry) for number, entry in enumerate(text.split(","), 1) if entry.strip()]
    return [_parse_entry(f"auth.api_keys_env: entry {number} of {variable}", entry) for number, entry in given]


def _parse_entry(place: str, text: str) -> Entry:
    secret, *words = (part.strip() for part in text.split(":"))
    if len(words) > 2:
        raise ConfigError(f"{place}: it has more than two colons (known: key, key:tenant, key:tenant:name)")
    tenant, name = [*words, "", ""][:2]
    check_secret(secret, place)
    for word in (tenant, name):
        check_name(word, place)
    # Usage records and limits need a name. The default one must not reveal the key.
    digest = digest_of(secret)
    return Entry(place, digest, Key(name or f"key-{digest.hex()[:8]}", tenant or None))


def _distinct(entries: Sequence[Entry]) -> dict[bytes, Key]:
    """Return the keys by their hashes. Raises ConfigError for a key that is there twice, and for names that collide."""
    keys: dict[bytes, Key] = {}
    of_name: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.digest in keys:
            raise ConfigError(f"{entry.place}: this key is listed twice")
        keys[entry.digest] = entry.key
        of_name.setdefault(entry.key.name, []).append(entry)
    for same in of_name.values():
        _check_one_name(same)
        if len({entry.key.tenant for entry in same}) > 1:
            keys |= {entry.digest: _qualified(entry.key) for entry in same}
    return keys


def _check_one_name(same: Sequence[Entry]) -> None:
    """Raise ConfigError if two of these keys would be one account, or change their names while others come and go.

    Two keys of one name and tenant are one account, whose key is about to be changed. Of keys without a tenant only
    the keys file can mean that: in the environment it is more likely that two people were given one name.
    """
    first, *others = same
    for entry in others:
        filed = first.filed or entry.filed
        if filed and any(entry.key.tenant != other.key.tenant for other in same):
            raise ConfigError(f"{entry.place}: a key of another tenant has this name ({first.place})")
        if not filed and entry.key.tenant is None and any(e.key.tenant is None for e in same if e is not entry):
            raise ConfigError(f"{entry.place}: another key without a tenant has this name ({first.place})")


def _qualified(key: Key) -> Key:
    return key if key.tenant is None else replace(key, name=f"{key.tenant}:{key.name}")

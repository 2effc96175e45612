"""API keys: what the environment and the keys file may say, scopes, expiry, and new keys without a restart."""

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.config.application import parse
from deployments.config.resolved import resolve
from deployments.config.settings import Auth
from deployments.errors import ConfigError, ExpiredKey, Forbidden, Unauthorized
from deployments.ingress.http import CHAT, route_table
from deployments.keys.file import MOST_BYTES
from deployments.keys.key import SCOPES, Key
from deployments.ops.key import main
from deployments.service.auth import Access, Authenticator
from tests.clock import run_virtually
from tests.unit.test_http_api import client
from tests.unit.test_routes import BODIES, path_of
from tests.unit.world import ARGS, REQUEST

SECRET = "sk-very-secret"


def line(key: str, /, **fields: Any) -> str:
    return json.dumps({"name": "alice", "sha256": hashlib.sha256(key.encode()).hexdigest(), **fields})


def of_list(text: str) -> Authenticator:
    return Authenticator(Auth(api_keys_env="KEYS"), {"KEYS": text})


class Clock:
    at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


class Filed:
    """A keys file, and an authenticator that reads it."""

    def __init__(self, folder: pathlib.Path, *lines: str, environ: Mapping[str, str] | None = None):
        self.path, self.clock, self._writes = folder / "keys.jsonl", Clock(), 0
        self.write(*lines)
        auth = Auth(keys_file=str(self.path), api_keys_env="KEYS" if environ else None)
        self.known = Authenticator(auth, environ or {}, self.clock)

    def write(self, *lines: str) -> None:
        self.path.write_text("".join(f"{text}\n" for text in lines))
        self._writes += 1
        os.utime(self.path, (self._writes, self._writes))  # a later second, however fast the test is

    def key(self, key: str) -> Key | None:
        return self.known.key(f"Bearer {key}")

    def lets(self, *keys: str) -> list[str]:
        return [key for key in keys if not self.known.is_wrong(f"Bearer {key}")]


# The list in the environment.

WRONG = [
    (f"{SECRET},{SECRET}", "entry 2 of KEYS: this key is listed twice"),
    (f"{SECRET}:acme:alice,{SECRET}:beta:bob", "entry 2 of KEYS: this key is listed twice"),
    (f"{SECRET}:acme:alice:extra", "entry 1 of KEYS: it has more than two colons"),
    (f"x,alice:acme:{SECRET}:", "entry 2 of KEYS: it has more than two colons"),
    (":acme", "entry 1 of KEYS: an API key is empty"),
    (f"{SECRET} twice", "entry 1 of KEYS: a key has a blank"),
    (f"{SECRET}\nother", "entry 1 of KEYS: a key has a blank, a line break"),
    (f"{SECRET}ü", "no client can send"),
    (f"{SECRET}\0", "no client can send"),
    (f"x::{SECRET},y::{SECRET}", "entry 2 of KEYS: another key without a tenant has this name"),
    (f"x:acme:{SECRET}\x07", "entry 1 of KEYS: a name has"),
    (f"x:{SECRET * 20}", "entry 1 of KEYS: a name has"),
    ("y::same,x:acme:same,z::same", "entry 3 of KEYS: another key without a tenant"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_a_list_of_keys_that_is_wrong_is_refused_and_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        of_list(text)
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_default_name_that_somebody_else_was_given_is_refused() -> None:
    name = f"key-{hashlib.sha256(b'one').hexdigest()[:8]}"
    with pytest.raises(ConfigError, match="another key without a tenant has this name"):
        of_list(f"one,two::{name}")


def test_a_list_that_worked_before_goes_on_working() -> None:
    known = of_list(" alpha : acme : ops ,, beta,gamma::carol\n,delta:acme:ops,")
    assert known.key("Bearer alpha") == known.key("Bearer delta") == Key("ops", "acme")
    assert known.key("Bearer gamma") == Key("carol", None, SCOPES, None)
    beta = known.key("bearer  beta ")
    assert beta is not None
    assert beta.name.startswith("key-")


@pytest.mark.parametrize("admin", [f"{SECRET}\n", f" {SECRET}", f"{SECRET} x", f"{SECRET}\r\n"])
def test_an_admin_key_that_nobody_could_send_is_refused(admin: str) -> None:
    with pytest.raises(ConfigError, match=r"auth\.admin_key_env: ADMIN: a key has a blank, a line break") as refused:
        Authenticator(Auth(admin_key_env="ADMIN"), {"ADMIN": admin})
    assert SECRET not in str(refused.value)


def test_an_api_key_is_not_the_admin_key() -> None:
    with pytest.raises(ConfigError, match="the admin key is an API key too"):
        Authenticator(Auth(admin_key_env="ADMIN", api_keys_env="KEYS"), {"ADMIN": "root", "KEYS": "a,root:acme"})


def test_no_key_is_kept_in_memory(tmp_path: pathlib.Path) -> None:
    filed = Filed(tmp_path, line("filed"), environ={"KEYS": "listed"})
    assert "listed" not in repr(filed.known._ring)
    assert set(filed.known._ring.keys or ()) == {hashlib.sha256(key).digest() for key in (b"filed", b"listed")}


# The keys file.


def test_a_file_names_holders_scopes_and_ends_and_is_no_open_door(tmp_path: pathlib.Path) -> None:
    lines = ["# keys of acme", "", line("k1", tenant="acme", scopes=["chat"], expires="2030-01-01T00:00:00+01:00")]
    filed = Filed(tmp_path, *lines, line("k2", name="bob", expires="2030-01-01"))
    at = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert filed.key("k1") == Key("alice", "acme", frozenset({"chat"}), at - 3600)
    assert filed.key("k2") == Key("bob", None, SCOPES, at)
    assert not filed.known.open
    with pytest.raises(Unauthorized):
        filed.key("k3")


WRONG_LINES = [
    (SECRET, "line 1: not JSON"),
    ("[]", "line 1: "),
    (line("k", name=""), "line 1: name: "),
    (line("k", name="a:b"), "line 1: a name has a colon"),
    (line("k", tenant="a\nb"), "line 1: a name has"),
    (line("k", sha256=SECRET), "line 1: sha256: 64 digits"),
    (line("k", sha256="A" * 64), "line 1: sha256: 64 digits"),
    (line(""), "line 1: sha256: it is that of an empty key"),
    (line("k", scopes=[]), "line 1: scopes: "),
    (line("k", scopes=[SECRET]), "line 1: scopes: each must be one of chat, rows, usage"),
    (line("k", expires=SECRET), "line 1: expires: "),
    (line("k", key=SECRET), "line 1: an unknown field (known: name, tenant, sha256, scopes, expires, tags)"),
    (line("k", **{SECRET: 1}), "line 1: an unknown field"),
    ('{"name": "alice"}', "line 1: sha256: it is missing"),
    (f"{line('k')}\n{line('k', name='bob')}", "line 2: this key is listed twice"),
    (f"{line('k', tenant='acme')}\n{line('l', tenant='beta')}", "line 2: a key of another tenant has this name"),
    (f"{line('k', tenant='acme')}\n{line('l')}", "line 2: a key of another tenant has this name"),
    ("# only\n\n", "it has no key"),
    ("", "it has no key"),
    (f"{line('k')}\n#{'x' * MOST_BYTES}", "bytes"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG_LINES)
def test_a_file_that_is_wrong_is_refused_by_its_line_and_not_repeated(
    tmp_path: pathlib.Path, text: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Filed(tmp_path, text)
    assert f"auth.keys_file: {tmp_path}/keys.jsonl" in str(refused.value)
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))


def test_a_wrong_or_missing_file_fails_the_deploy(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    alone = {"providers": {"openai": {"kind": "openai"}}, "models": {"solo": {"openai": "gpt"}}}
    args = {**alone, "auth": {"keys_file": str(tmp_path / "none")}}
    with pytest.raises(ConfigError, match=r"^auth\.keys_file: No such file"):
        resolve(parse(args))
    monkeypatch.setenv("KEYS", "a,a")
    with pytest.raises(ConfigError, match="listed twice"):
        resolve(parse({**alone, "auth": {"api_keys_env": "KEYS"}}))
    assert parse(args).explain_exposure("0.0.0.0") is None


def test_a_key_is_changed_without_a_restart_and_both_work_meanwhile(tmp_path: pathlib.Path) -> None:
    filed = Filed(tmp_path, line("old", tenant="acme"), environ={"KEYS": "listed"})
    filed.write(line("old", tenant="acme"), line("new", tenant="acme"))
    assert filed.lets("old", "new", "listed") == ["old", "listed"], "nobody has looked yet"
    filed.known.refresh()
    assert filed.lets("old", "new", "listed") == ["old", "new", "listed"]
    assert filed.key("old") == filed.key("new"), "one account, in usage and limits"
    filed.write(line("new", tenant="acme"))
    filed.known.refresh()
    assert filed.lets("old", "new", "listed") == ["new", "listed"]


def test_a_file_that_goes_wrong_while_running_changes_nothing_and_is_logged_once(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    filed = Filed(tmp_path, line("k"))
    caplog.set_level(logging.INFO, "ray.serve")
    for break_it in (lambda: filed.write(SECRET), lambda: filed.write(), filed.path.unlink):
        caplog.clear()
        break_it()
        for _ in range(3):
            filed.known.refresh()
        assert filed.lets("k") == ["k"]
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert SECRET not in caplog.text
    filed.write(line("k2"))
    filed.known.refresh()
    assert filed.lets("k", "k2") == ["k2"]


def test_a_file_that_was_replaced_within_one_tick_of_its_clock_is_read_again(tmp_path: pathlib.Path) -> None:
    filed = Filed(tmp_path, line("k1"))
    other = tmp_path / "other"
    other.write_text(f"{line('k2')}\n")
    os.utime(other, (1, 1))
    other.replace(filed.path)
    filed.known.refresh()
    assert filed.lets("k1", "k2") == ["k2"]


def test_the_service_looks_for_new_keys_once_a_second(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text(line("old"))

    async def main() -> None:
        async with client({**ARGS, "auth": {"keys_file": str(path)}}) as (http, w):
            path.write_text(line("new", name="other"))
            headers = {"authorization": "Bearer new"}
            assert (await http.get("/v1/models", headers=headers)).status_code == 401
            w.service.sample()
            assert (await http.get("/v1/models", headers=headers)).status_code == 200

    run_virtually(main())


# Expiry and scopes.


def test_a_key_ends_at_its_time_and_says_so(tmp_path: pathlib.Path) -> None:
    filed = Filed(tmp_path, line("k", expires="2030-01-01T00:00:00Z"))
    end = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    filed.clock.at = end - 1
    assert filed.key("k") is not None
    filed.clock.at = end
    with pytest.raises(ExpiredKey, match="has expired") as ended:
        filed.key("k")
    assert (ended.value.status, ended.value.code) == (401, "expired_api_key")
    assert not filed.known.is_wrong("Bearer k"), "it is no guess"


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_key_opens_the_routes_of_its_scopes_and_those_that_need_none(tmp_path: pathlib.Path, scope: str) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text(line("k", scopes=[scope]))

    async def main() -> None:
        async with client({**ARGS, "auth": {"keys_file": str(path)}}) as (http, w):
            for route in route_table(w.service):
                if route.access in (Access.ADMIN, Access.OPERATOR):
                    continue
                headers = {"authorization": "Bearer k"}
                answer = await http.request(route.method, path_of(route), headers=headers, json=BODIES.get(route.path))
                assert (answer.status_code == 403) is (route.scope not in (None, scope)), route
                if answer.status_code == 403:
                    assert f"lacks the scope '{route.scope}'" in answer.json()["error"]["message"]

    run_virtually(main())


def test_a_scope_is_no_matter_for_the_admin_key_and_an_expired_key_asks_nobody(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text(line("k", expires="2020-01-01"))

    async def main() -> None:
        async with client({**ARGS, "auth": {"keys_file": str(path), "admin_key_env": "ADMIN"}}) as (http, w):
            answer = await http.post(CHAT, json=REQUEST, headers={"authorization": "Bearer k"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "expired_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert w.provider("aws").calls == 0
            unknown = await http.get("/v1/requests/none", headers={"authorization": "Bearer root"})
            assert unknown.status_code == 404

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADMIN", "root")
        run_virtually(main())


def test_scopes_are_no_part_of_who_pays() -> None:
    with pytest.raises(Forbidden, match="lacks the scope 'usage'"):
        Key("alice", None, frozenset({"chat"})).check("usage", 0.0)
    Key("alice", None, frozenset({"chat"})).check("chat", 0.0)
    Key("alice", None, frozenset({"chat"})).check(None, 0.0)


# The command.

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments), lambda: NOW)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_new_key_is_shown_once_and_its_line_has_only_its_hash(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("--name", "alice", "--tenant", "acme", "--scopes", "chat, usage", "--expires", "90d")
    code, out, err = made(capsys, *names)
    [key] = [text for text in err.splitlines() if text.startswith("bw-")]
    assert code == 0
    assert key not in out
    assert len(key) >= 40
    filed = Filed(tmp_path, out.strip())
    filed.clock.at = NOW.timestamp()
    end = datetime(2027, 2, 27, 12, 0, tzinfo=UTC).timestamp()
    assert filed.key(key) == Key("alice", "acme", frozenset({"chat", "usage"}), end)
    assert made(capsys, *names)[1] != out


def test_what_is_not_said_is_not_limited(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = made(capsys, "--name", "bob")
    assert sorted(json.loads(out)) == ["name", "sha256"]
    Filed(tmp_path, out.strip())


@pytest.mark.parametrize(
    "wrong",
    [
        ("--name", "a:b"),
        ("--name", ""),
        ("--name", "a", "--scopes", "chats"),
        ("--name", "a", "--expires", "soon"),
        ("--name", "a", "--expires", "2020-01-01"),
        ("--name", "a", "--expires", "0d"),
        ("--name", "a", "--expires", "1w"),
    ],
)
def test_a_key_that_the_file_may_not_hold_is_not_made(capsys: pytest.CaptureFixture[str], wrong: tuple[str]) -> None:
    code, out, err = made(capsys, *wrong)
    assert (code, out) == (1, "")
    assert err.startswith("no key was made: ")
    assert "bw-" not in err

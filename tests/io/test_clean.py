"""What earlier runs have left: what is dead and ours goes, and only when it is said; all else stays."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from deployments.ops.clean import Leftover, Places, Rules, find, main, places, remove
from deployments.ops.start_haproxy import closed

HOUR = 3600.0
NODE = "0" * 55
OURS = ":job_id:02000000\n:actor_name:BreakerActor\n"
TEMPLATE = "defaults\n    mode http\n    timeout client 3600s\n"


@pytest.fixture
def where(tmp_path: pathlib.Path) -> Places:
    found = Places(tmp_path / "ray", tmp_path / "haproxy-serve")
    for folder in (found.sessions, found.haproxy):
        folder.mkdir()
    return found


def session(where: Places, number: int, first_lines: str = OURS) -> pathlib.Path:
    """A folder as Ray makes it, of an application in which an actor of this name ran."""
    made = where.sessions / f"session_2026-11-28_15-12-46_294369_{number}"
    (made / "logs").mkdir(parents=True)
    (made / "sockets").mkdir()
    (made / "logs" / f"worker-{number}-02000000-{number}.out").write_text(first_lines)
    (made / f"metrics_agent_port_{NODE}{number % 10}").write_text("1")
    return made


def haproxy(where: Places, number: int, config: str) -> pathlib.Path:
    made = where.haproxy / f"{NODE}{number % 10}"
    made.mkdir()
    (made / "haproxy.cfg").write_text(config)
    return made


def kept(where: Places, *, after: float = 2 * HOUR, user: int | None = None) -> dict[pathlib.Path, str | None]:
    """Return why each folder stays, that long after all was written."""
    rules = Rules(os.geteuid() if user is None else user, HOUR)
    return {each.path: each.kept for each in find(where, rules, time.time() + after)}


def swept(where: Places) -> list[pathlib.Path]:
    """Remove what can go two hours from now, and return it."""
    rules, now = Rules(os.geteuid(), HOUR), time.time() + 2 * HOUR
    return [each.path for each in remove(where, rules, now, find(where, rules, now))]


@contextlib.contextmanager
def process_that_names(path: pathlib.Path) -> Iterator[None]:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", f"--log_dir={path}/logs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        yield


def test_a_dead_session_of_ours_goes_with_its_haproxy_and_with_the_link_to_it(where: Places) -> None:
    dead, beside = session(where, 1), haproxy(where, 1, TEMPLATE)
    latest = where.sessions / "session_latest"
    latest.symlink_to(dead)
    assert kept(where) == {dead: None, beside: None}
    assert swept(where) == [dead, beside]
    assert not dead.exists()
    assert not beside.exists()
    assert not latest.is_symlink()


def test_a_haproxy_that_our_wrapper_started_goes_although_its_session_is_gone(where: Places) -> None:
    ours, foreign = haproxy(where, 1, closed(TEMPLATE)), haproxy(where, 2, TEMPLATE)
    assert kept(where) == {ours: None, foreign: "not known to be Breakwater's"}
    assert swept(where) == [ours]


def test_a_session_that_a_process_names_stays_and_so_does_its_haproxy(where: Places) -> None:
    live, beside = session(where, 1), haproxy(where, 1, closed(TEMPLATE))
    with process_that_names(live):
        assert kept(where) == {live: "in use by a process", beside: "its session is kept"}
        assert swept(where) == []
    assert swept(where) == [live, beside]


def test_a_session_on_whose_socket_somebody_listens_stays_though_no_process_names_it(where: Places) -> None:
    live = session(where, 1)
    path = live / "sockets" / "plasma_store"
    before = pathlib.Path.cwd()
    os.chdir(path.parent)  # a path of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
            listening.listen()
            assert kept(where) == {live: "in use: a socket answers"}
            assert swept(where) == []
    finally:
        os.chdir(before)
    assert path.is_socket(), "it is left behind, as by a kill -9"
    assert swept(where) == [live]


def test_a_session_that_was_written_to_lately_stays(where: Places) -> None:
    live = session(where, 1)
    assert kept(where, after=HOUR - 60) == {live: "written to lately"}


def test_a_session_of_another_user_or_behind_a_link_stays(where: Places, tmp_path: pathlib.Path) -> None:
    real = session(where, 1)
    assert kept(where, user=os.geteuid() + 1) == {real: "another user's, or a link"}
    moved = real.rename(tmp_path / real.name)
    real.symlink_to(moved)
    assert kept(where) == {real: "another user's, or a link"}
    assert swept(where) == []
    assert (moved / "logs").is_dir()


@pytest.mark.parametrize("first_lines", ["", ":actor_name:ServeController\n", "said: :actor_name:BreakerActor\n"])
def test_a_session_in_which_our_actors_did_not_run_stays(where: Places, first_lines: str) -> None:
    foreign, beside = session(where, 1, first_lines), haproxy(where, 1, closed(TEMPLATE))
    assert kept(where) == {foreign: "not known to be Breakwater's", beside: "its session is kept"}
    assert swept(where) == []


def test_folders_with_other_names_are_not_even_listed(where: Places) -> None:
    session(where, 1).rename(where.sessions / "session_of_mine")
    haproxy(where, 1, closed(TEMPLATE)).rename(where.haproxy / "backup")
    assert kept(where) == {}


def test_what_has_come_to_life_after_the_list_was_made_stays(where: Places) -> None:
    live = session(where, 1)
    rules, now = Rules(os.geteuid(), HOUR), time.time() + 2 * HOUR
    left = find(where, rules, now)
    assert [each.kept for each in left] == [None]
    with process_that_names(live):
        assert list(remove(where, rules, now, left)) == []
    assert live.exists()


def test_what_was_not_in_the_list_is_not_removed(where: Places) -> None:
    listed = [Leftover(session(where, 1), 0, 0.0, None)]
    later = session(where, 2)
    rules, now = Rules(os.geteuid(), HOUR), time.time() + 2 * HOUR
    assert [each.path for each in remove(where, rules, now, listed)] == [listed[0].path]
    assert later.exists()


def test_the_command_lists_and_removes_only_when_told_to(
    where: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", str(where.haproxy / "haproxy.cfg"))
    dead, young = session(where, 1), session(where, 2)
    for path in (*dead.rglob("*"), dead):
        os.utime(path, (0, 0))
    told = ["--temp-dir", str(where.sessions), "--older-than", "7d"]
    assert main(told) == 0
    listed = capsys.readouterr().out
    assert f"{dead}  0.0 MB" in listed
    assert f"{young}  0.0 MB, 0 h old, kept: written to lately" in listed
    assert listed.endswith("1 of 2 folders, 0.0 MB, can go; --remove removes them.\n")
    assert dead.exists()
    assert main([*told, "--remove"]) == 0
    assert capsys.readouterr().out.endswith("1 of 2 folders, 0.0 MB, were removed.\n")
    assert (dead.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("wrong", ["1", "soon", "-1h"])
def test_an_age_that_is_none_removes_nothing(where: Places, wrong: str) -> None:
    dead = session(where, 1)
    with pytest.raises(SystemExit, match="2"):
        main(["--temp-dir", str(where.sessions), f"--older-than={wrong}", "--remove"])
    assert dead.exists()


def test_the_folders_are_where_ray_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_ray_temp_dir
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    monkeypatch.delenv("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", raising=False)
    for base in ({}, {"RAY_TMPDIR": "/var/lib/one"}, {"TMPDIR": "/var/lib/two"}, {"RAY_TMPDIR": "/a", "TMPDIR": "/b"}):
        for name in ("RAY_TMPDIR", "TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in base.items():
            monkeypatch.setenv(name, value)
        assert str(places(None).sessions) == get_default_ray_temp_dir()
    assert places(None).haproxy / "haproxy.cfg" == pathlib.Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC)

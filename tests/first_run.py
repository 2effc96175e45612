"""A newcomer's first minute, as the README and docs/http-api.md have it: the command, the curls, a wrong config.

    uv run python -m tests.first_run

Prints the seconds from the first command to the first answer. It needs port 8000, and no key.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import yaml

from deployments.ingress.server.unix_socket import NAME
from tests.cluster.listening import command_of, descendants, unix_connections
from tests.readme import ROOT, Reply, command, curl

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "AWS_REGION", "AWS_DEFAULT_REGION")
RUN = "pip install uv && uv run --env-file serve.env serve run"


@contextlib.contextmanager
def running(line: str) -> Iterator[tuple[subprocess.Popen[str], pathlib.Path]]:
    """A shell command in a process group of its own, ended as Ctrl-C ends it."""
    env = {k: v for k, v in os.environ.items() if k not in KEYS and not k.startswith(("RAY_", "UV_RUN", "VIRTUAL_ENV"))}
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(
            line, shell=True, cwd=ROOT, env=env, stdout=log, stderr=log, text=True, start_new_session=True
        )
        try:
            yield process, pathlib.Path(log.name)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def first_answer(process: subprocess.Popen[str], log: pathlib.Path, line: str) -> Reply:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended:\n{log.read_text()}"
        with contextlib.suppress(OSError):
            reply = curl(line)
            if reply.status == 200:
                return reply
        time.sleep(0.1)
    raise AssertionError(f"no answer in time:\n{log.read_text()}")


def port_is_free() -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", 8000)) != 0


def check_the_first_run() -> None:
    began = time.monotonic()
    with running(command(RUN).replace("&& ", "&& exec ")) as (process, log):  # the exit code is no shell's
        reply = first_answer(process, log, command("curl http://127.0.0.1:8000/v1/chat/completions"))
        seconds = time.monotonic() - began
        assert reply.headers["x-breakwater-provider"] == "local", reply
        assert reply.headers["x-breakwater-degraded"] == "true", reply
        assert "Paris" in reply.text, reply
        print(f"first answer after {seconds:.1f} s: {reply.text}")
        stream = curl(command("curl -N http://127.0.0.1:8000/v1/chat/completions"))
        assert stream.headers["x-breakwater-provider"] == "local", stream
        assert stream.text.endswith("data: [DONE]\n\n"), stream
        for start in ("curl http://127.0.0.1:8000/v1/models", "curl http://127.0.0.1:8000/v1/providers"):
            assert curl(command(start)).status == 200
        keyed = curl(command("curl -H 'idempotency-key: order-4711'"))
        assert (keyed.status, keyed.headers["x-breakwater-idempotent"]) == (200, "new"), keyed
        print("stream, models, providers, a request with a key: as the docs say")
        wait_for("Ctrl-C stops it.", process, log)
        assert "Breakwater is ready" in log.read_text(), log.read_text()
        check_who_interrupts(process.pid)
        check_how_haproxy_asks(process.pid)
        check_the_status()
        check_a_second_start()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(90) == 0, log.read_text()
        assert log.read_text().rstrip().endswith("Stopped."), log.read_text()
        print("it says when it is ready, and Ctrl-C stops it with 0")


def wait_for(word: str, process: subprocess.Popen[str], log: pathlib.Path) -> None:
    deadline = time.monotonic() + 120
    while word not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


def check_who_interrupts(pid: int) -> None:
    """Every process of Ray waits for its turn when it is woken: what it does then is next to never for a request."""
    found = dict[str, int]()
    for child in descendants(pid):
        if name := re.search(r"gcs_server|raylet/raylet|dashboard/dashboard\.py|ray::\w+", command_of(child)):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                found[f"{name[0]} {child}"] = os.sched_getscheduler(child)
    kinds = {name.split()[0] for name in found}
    assert {"gcs_server", "raylet/raylet", "dashboard/dashboard.py", "ray::ServeReplica"} <= kinds, found
    assert {*found.values()} == {os.SCHED_BATCH}, found
    print("no process of Ray interrupts another")


def check_how_haproxy_asks(pid: int) -> None:
    """It keeps its connections to the ingress, so those of the answers before are still there."""
    curl(command("curl http://127.0.0.1:8000/v1/models"))
    [ingress] = [child for child in descendants(pid) if "ray::ServeReplica:llm:Ingress" in command_of(child)]
    assert unix_connections(ingress, f"@{NAME.format(port='')}") > 0
    deadline = time.monotonic() + 30  # a HAProxy that has just replaced another has no connection yet
    while haproxys_policies(pid) != {os.SCHED_OTHER}:
        assert time.monotonic() < deadline, "few requests are under way, and HAProxy waits for its turn"
        time.sleep(0.1)
    print("HAProxy asks the ingress by its UNIX socket, and at once")


def haproxys_policies(pid: int) -> set[int]:
    found = set[int]()
    for child in descendants(pid):
        if "/haproxy " in command_of(child):
            with contextlib.suppress(ProcessLookupError):  # another one has replaced it
                found.add(os.sched_getscheduler(child))
    return found


def check_the_status() -> None:
    line = command("uv run --env-file serve.env serve status")
    said = subprocess.run(line.split(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert yaml.safe_load(said)["applications"]["llm"]["status"] == "RUNNING", said
    print("serve status: RUNNING")


def check_a_second_start() -> None:
    with running(command(RUN)) as (process, log):
        assert process.wait(120) == 1, log.read_text()
        assert "Port 8000 (http_options.port) is taken by process" in log.read_text(), log.read_text()
        assert "serve run" in log.read_text(), log.read_text()
    print("a second start: one sentence, with who holds the port")


def check_a_start_after_a_kill() -> None:
    """Kill uv, which started `serve run`, as `kill -9 $!` does; then start again, at once."""
    line, ask = command(RUN).replace("&& ", "&& exec "), command("curl http://127.0.0.1:8000/v1/chat/completions")
    with running(line) as (process, log):
        first_answer(process, log, ask)
        wait_for("Ctrl-C stops it.", process, log)
        process.kill()
        process.wait(10)
    began = time.monotonic()
    with running(line) as (process, log):
        wait_for("Ctrl-C stops it.", process, log)  # nobody of the first one answers by then
        assert first_answer(process, log, ask).headers["x-breakwater-provider"] == "local"
        assert "Traceback" not in log.read_text(), log.read_text()
    print(f"after a kill -9 the next start answers, {time.monotonic() - began:.1f} s later")


def check_a_wrong_config() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write((ROOT / "serve_config.yaml").read_text().replace("idle: 15", "idel: 15"))
        file.flush()
        began = time.monotonic()
        with running(command(RUN).replace("serve_config.yaml", file.name)) as (process, log):
            assert process.wait(120) == 1, log.read_text()
            seconds = time.monotonic() - began
            assert f"{file.name}: timeouts.idel: unknown key" in log.read_text(), log.read_text()
            assert "Traceback" not in log.read_text(), log.read_text()
    print(f"a wrong config: one sentence after {seconds:.1f} s, before Ray starts")


def main() -> int:
    if not port_is_free():
        print("port 8000 is taken", file=sys.stderr)
        return 2
    check_the_first_run()
    wait_for_the_port()
    check_a_start_after_a_kill()
    wait_for_the_port()
    check_a_wrong_config()
    return 0


def wait_for_the_port() -> None:
    deadline = time.monotonic() + 30
    while not port_is_free():
        assert time.monotonic() < deadline, "something still listens on port 8000"
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())

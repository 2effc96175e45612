"""What `serve run` does before Ray starts, and as soon as it has started.

Ray calls what RAY_RUNTIME_ENV_HOOK names in `ray.init`. `site/sitecustomize.py` sets it, in `serve run` alone; before
that it has had the config checked: see `early.py`.
"""

import atexit
import contextlib
import functools
import http.client
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import click
import ray
from ray import serve

from actors.process import interrupt_nobody
from deployments.config.check import Judged, applications_of
from deployments.ops.serve_run import slim, words
from deployments.ops.serve_run.early import Checked, Found
from deployments.ops.serve_run.left_behind import end_all
from deployments.ops.serve_run.open_files import raise_limit
from deployments.ops.serve_run.parent import end_with_uv
from deployments.ops.serve_run.ports import Port, explain_taken, is_taken, ports_of

LOOK_SECONDS = 0.2
STATUS_SECONDS = 1.0  # between two questions to Serve, which cost its controller time that the start needs
SAY_SECONDS = 30.0  # between two words on a start that takes long
TWICE_SECONDS = 1.0
OWN_RAY = "local"  # the address for which a Ray is started


@dataclass(frozen=True, slots=True)
class Run:
    """A `serve run` of a config file with applications of ours: name to URL."""

    path: str
    applications: Sequence[Judged]
    urls: Mapping[str, str]
    began: float


def begin(runtime_env: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse what can't start, before Ray does; then say when it answers. Return the argument as it is."""
    os.environ.pop("RAY_RUNTIME_ENV_HOOK", None)  # not for the processes that this one starts
    context = click.get_current_context(silent=True)
    checked = Found.checked
    if context is not None and context.info_name == "run" and checked is not None:
        is_local, blocks = context.params.get("address") == OWN_RAY, bool(context.params.get("blocking"))
        _prepare(checked, is_local=is_local, blocks=blocks)
    return runtime_env


def _prepare(checked: Checked, *, is_local: bool, blocks: bool) -> None:
    options = checked.config.get("http_options") or {}
    if is_local:
        if (processes := slim.choice(os.environ)) is None:
            _refuse(f"{slim.VARIABLE} must be one of {', '.join(slim.CHOICES)}.")
        if (wrong := raise_limit(os.environ)) is not None:
            _refuse(wrong)
        slim.apply(processes)
        _free(ports_of(options, os.environ))
        end_with_uv(Found.parent)
        # What Ray starts from here wakes a thousand times a second, to no end, and would each time interrupt a request.
        interrupt_nobody()
    urls = {str(each.get("name", "default")): words.url_of(options, each) for each in applications_of(checked.config)}
    if is_local:  # nobody outside this machine has to notice that a replica goes
        os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "1")
    _be_quiet()
    print(words.starting(checked.applications, urls), flush=True)
    if blocks:
        signal.signal(signal.SIGINT, _stop)
        after = functools.partial(_watch_start, Run(checked.path, checked.applications, urls, time.monotonic()))
        ray._private.worker._post_init_hooks.append(after)


def _free(ports: Sequence[Port]) -> None:
    """End what an earlier Breakwater has left at these ports, and refuse to start if anything else is there."""
    for sentence in end_all([port.number for port in ports if is_taken(port)]):
        print(sentence, flush=True)
    if (taken := explain_taken(ports)) is not None:
        _refuse(taken)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr, flush=True)
    raise SystemExit(1)


def _be_quiet() -> None:
    """Leave out what Ray and Serve say at a start that goes well; above all that it does before it is known."""
    logging.getLogger("ray._private.worker").addFilter(lambda record: "View the dashboard at" not in record.msg)
    logging.getLogger("ray.serve").addFilter(lambda record: "Started Serve in namespace" not in record.getMessage())
    with contextlib.suppress(ImportError, AttributeError):
        from ray.autoscaler._private.cli_logger import cli_logger

        cli_logger.success = lambda *_, **__: None  # type: ignore[method-assign]


def _watch_start(run: Run) -> None:
    """Ray has started: take its signals, and look until the application answers or has failed."""
    _take_signals(_stop)
    atexit.register(_finish)
    with contextlib.suppress(ImportError, AttributeError):
        _filter_logs()
    _Ending.watcher = threading.Thread(target=_wait_until_ready, args=[run], daemon=True, name="breakwater-start")
    _Ending.watcher.start()


def _filter_logs() -> None:
    """Show what processes write as Ray does, but for what nobody has to act on."""
    from ray._private import worker
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

    show = worker.print_to_stdstream

    def show_some(log: dict[str, Any], ignore_prefix: bool = False) -> None:
        if (kept := words.without_noise(log)) is not None:
            show(kept, ignore_prefix=ignore_prefix)

    worker.print_to_stdstream = show_some  # type: ignore[assignment]  # what Ray itself tells goes there
    dispatcher.remove_handler("ray_print_logs")
    dispatcher.add_handler("ray_print_logs", show_some)


def _wait_until_ready(run: Run) -> None:
    said_at = asked_at = run.began
    while not _Ending.began:
        time.sleep(LOOK_SECONDS)
        answers = all(map(_answers, run.urls.values()))
        if not answers and time.monotonic() - asked_at < STATUS_SECONDS:
            continue
        found, asked_at = _statuses(run), time.monotonic()
        for application in found.values():
            if application.status == "DEPLOY_FAILED":
                failed = {n: d.message for n, d in application.deployments.items() if d.status == "DEPLOY_FAILED"}
                _Ending.failure = words.failure(run.path, application.message, failed)
                os.kill(os.getpid(), signal.SIGTERM)
                return
        if answers and found and all(each.status == "RUNNING" for each in found.values()):
            _say_ready(run)
            return
        if asked_at - said_at >= SAY_SECONDS:
            said_at = asked_at
            waiting = {name: d.status.value for each in found.values() for name, d in each.deployments.items()}
            print(words.still_starting(asked_at - run.began, waiting), flush=True)


def _say_ready(run: Run) -> None:
    node: Any = ray._private.worker._global_node
    logs = os.path.join(node.get_logs_dir_path(), "serve")
    seconds = time.monotonic() - run.began
    dashboard = f"http://{node.webui_url}" if node.webui_url else None
    print(words.ready(seconds, run.applications, run.urls, logs, dashboard), flush=True)


def _statuses(run: Run) -> Mapping[str, Any]:
    """Return what Serve says of our applications; nothing while Serve itself starts, or ends."""
    with contextlib.suppress(Exception):
        return {name: each for name, each in serve.status().applications.items() if name in run.urls}
    return {}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except (OSError, http.client.HTTPException):
        return False


class _Ending:
    """Why the start failed, if it did: the last word of the process. And since when it stops."""

    failure: str | None = None
    began = 0.0
    watcher: threading.Thread | None = None


def _stop(_: int, __: FrameType | None) -> NoReturn:
    """End as a server does: the exit code is 0, unless the start failed."""
    _Ending.began = time.monotonic()
    _take_signals(_cut)
    if _Ending.failure is None:
        print("\nStopping. Requests under way have 30 s; Ctrl-C again cuts them.", flush=True)
    raise SystemExit(0 if _Ending.failure is None else 1)


def _cut(_: int, __: FrameType | None) -> None:
    """Wait no longer. One Ctrl-C may come twice: from the terminal, and from who started this process."""
    if time.monotonic() - _Ending.began > TWICE_SECONDS:
        raise KeyboardInterrupt


def _take_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _finish() -> None:
    """Shut Serve down, at the end of the process: a signal comes at any moment, and is no place for it."""
    with contextlib.suppress(Exception, KeyboardInterrupt):
        if _Ending.watcher is not None:
            _Ending.watcher.join(5)  # what it asks of Serve after Ray's end would start another Ray
        if ray.is_initialized():
            _shut_down(ray._private.worker._global_node)
    _take_signals(signal.SIG_IGN)
    ray.shutdown()
    print(_Ending.failure or "Stopped.", file=sys.stderr if _Ending.failure else sys.stdout, flush=True)


def _shut_down(node: Any) -> None:
    """Let Serve end what is under way. Who stops us may have stopped Ray's processes too: then nobody does it."""
    ending = threading.Thread(target=serve.shutdown, daemon=True)
    ending.start()
    while ending.is_alive() and not any(node.dead_processes()):
        ending.join(LOOK_SECONDS)

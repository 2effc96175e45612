"""See Breakwater's main job without any key: providers break in turns, and clients get their answers.

    uv run --env-file serve.env python -m tests.demo

Starts Breakwater with fakes for the clouds and with its real local model, lets agents ask a few questions a second, and
breaks the providers in turns. It prints what the clients saw of each outage, and the address of the console. It goes
round and round until Ctrl-C; `--once` plays it once, in two minutes, and ends with 1 if a client got an error or less.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Coroutine
from typing import Any

from tests.bench.processes import CannotRun
from tests.demo import lines
from tests.demo.config import ADMIN_KEY
from tests.demo.picture import camera
from tests.demo.script import SCRIPT, at_speed, rounds
from tests.demo.stage import Play, breakwater, clouds

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130  # as a shell says it of a program that Ctrl-C has ended


def main(arguments: list[str]) -> int:
    chosen = _chosen(arguments)
    for number in SIGNALS:
        signal.signal(number, _leave)  # a shell's background job is told to ignore SIGINT
    try:
        return _play(chosen)
    except CannotRun as error:
        print(f"The demo can't run: {error}", file=sys.stderr)
        return 2


def _chosen(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="play the script once; ends with 1 if anything was lost")
    parser.add_argument("--no-browser", action="store_true", help="don't open the console")
    parser.add_argument("--picture", type=pathlib.Path, metavar="FILE", help="take the console's picture, a PNG; once")
    parser.add_argument("--speed", type=float, default=1.0, metavar="N", help="have phases that are N times as short")
    return parser.parse_args(arguments)


def _play(chosen: argparse.Namespace) -> int:
    """Play the demo in a folder of its own, and return its exit code."""
    once = chosen.once or chosen.picture is not None
    # Its name is short because the path of a socket below it may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="bw-demo-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        photographer = camera(folder, chosen.picture) if chosen.picture else contextlib.nullcontext()
        with photographer as eye, clouds() as fakes:
            _say("Starting Breakwater, which takes some 20 s ...")
            with breakwater(folder, fakes) as url:
                _say("", *lines.opening(url, ADMIN_KEY), "")
                show = eye.look if eye is not None else _open
                if eye is not None or not chosen.no_browser:
                    show(url)
                play = Play(url, fakes, _print, None if eye is None else eye.take)
                finished = _until_the_end(play, chosen.speed, once=once)
                _say(*lines.ending(play.seconds, play.total), "Ending all of it ...")
    return 1 if not play.total.is_good else 0 if finished or not once else INTERRUPTED


def _until_the_end(play: Play, speed: float, *, once: bool) -> bool:
    """Return whether the script came to its end."""
    try:
        asyncio.run(_interruptible(play.run(rounds(at_speed(SCRIPT, speed), once=once))))
    except asyncio.CancelledError:
        return False
    finally:
        _ignore_signals()
    return True


async def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def _open(url: str) -> None:
    """Open the console in the user's browser, if there is a display."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(f"{url}/")


def _say(*said: str) -> None:
    for line in said:
        _print(f"{line}\n")


def _print(text: str) -> None:
    print(text, end="", flush=True)


def _leave(number: int, _: object) -> None:
    _ignore_signals()
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    """From now on nobody keeps us from ending what we have started."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

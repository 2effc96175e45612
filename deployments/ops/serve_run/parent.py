"""End `serve run` when `uv run`, which has started it, was killed. Linux.

`uv run` stays as its parent and passes signals on, but no `kill -9`: then `serve run` would go on unseen, and the next
start would find its ports taken. Another parent, as a shell, may go: what it has started may be meant to stay.
"""

import contextlib
import os
import signal
import threading
import time

from deployments.ops.serve_run.processes import read

LOOK_SECONDS = 0.5
WORDS_SECONDS = 1.0  # in which the last words can be written, or not at all


def end_with_uv(parent: int) -> None:
    """Watch the parent that this process had when it started, if that is uv."""
    started_by = read(parent)
    if started_by is not None and os.path.basename(started_by.program) == "uv":
        threading.Thread(target=_watch, args=[parent], daemon=True, name="breakwater-uv").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    # Whoever reads our words may be gone, or stand still: neither keeps this from ending.
    words = threading.Thread(target=_say, daemon=True)
    words.start()
    words.join(WORDS_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # as if it had been meant: the kernel then ends Ray's processes too


def _say() -> None:
    with contextlib.suppress(OSError, ValueError):
        print("uv, which started this, was killed. So this ends, and all that it started.", flush=True)

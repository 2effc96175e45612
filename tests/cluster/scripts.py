"""Scripts of others, run on the cluster from a folder of their own."""

import os
import pathlib
import subprocess
import sys

import ray


def printed_by(folder: pathlib.Path, *arguments: str, python: str = sys.executable, **more: str) -> str:
    """What Python prints when it is run so in this folder, with none of our code on its path."""
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**os.environ, **more, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""Python imports this at its start, as serve.env has this folder on the path: it gives `serve run` its hook.

Only `serve run`: another program with the same environment may not find our modules, and Ray would fail in it.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence

HOOK = "RAY_RUNTIME_ENV_HOOK"
HERE = os.path.dirname(os.path.abspath(__file__))


def is_serve_run(words: Sequence[str]) -> bool:
    """Return whether a command line is `serve run` or `python -m ray.serve.scripts run`."""
    serves = any(os.path.basename(word) == "serve" or word == "ray.serve.scripts" for word in words[:4])
    return serves and "run" in words[:5]


def import_next() -> None:
    """Import the module of this name that would have been imported without ours, if there is one."""
    path = [place for place in sys.path if os.path.abspath(place) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if is_serve_run(sys.orig_argv):
    os.environ.setdefault(HOOK, "deployments.ops.serve_run.hook.begin")
import_next()

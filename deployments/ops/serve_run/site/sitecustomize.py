"""Python imports this at its start, as serve.env has this folder on the path.

It has the config of `serve run` and `serve deploy` checked before Serve reads it, gives `serve run` its hook, and has
Ray's agent take histograms over at once (agent_histograms.py). No other program is changed: it may have the same
environment and not find our modules, and Ray would fail in it.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence

HOOK = "RAY_RUNTIME_ENV_HOOK"
HERE = os.path.dirname(os.path.abspath(__file__))


def command_of(words: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Return `run` or `deploy` and the words behind it; None if a command line is not one of Serve's two."""
    for place, word in enumerate(words[:4]):
        if os.path.basename(word) == "serve" or word == "ray.serve.scripts":
            verb, *behind = [*words[place + 1 :], ""]
            return (verb, behind[:-1]) if verb in ("run", "deploy") else None
    return None


def is_agent(words: Sequence[str]) -> bool:
    """Return whether a command line is that of Ray's agent."""
    return any(word.replace("\\", "/").endswith("ray/dashboard/agent.py") for word in words[:4])


def check_first(verb: str, words: Sequence[str]) -> None:
    """Have the config checked, if our modules are found from here."""
    try:
        from deployments.ops.serve_run import early
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("deployments"):
            raise
        return
    early.begin(verb, words)


def import_next() -> None:
    """Import the module of this name that would have been imported without ours, if there is one."""
    path = [place for place in sys.path if os.path.abspath(place) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if (command := command_of(sys.orig_argv)) is not None:
    check_first(*command)
    if command[0] == "run":
        os.environ.setdefault(HOOK, "deployments.ops.serve_run.hook.begin")
elif is_agent(sys.orig_argv):
    # It lies beside this file, which was found by the path.
    sys.meta_path.insert(0, importlib.import_module("agent_histograms").AfterImport())
import_next()

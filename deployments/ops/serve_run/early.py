"""Check the config file of `serve run` and `serve deploy` before Serve reads it.

`site/sitecustomize.py` calls `begin` at the start of the process, when neither Ray nor Serve is imported. A file of
other applications alone is left to Serve.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from deployments.config.check import Judged, applications_of, check_alone, judge, read_config
from deployments.config.sentences import sentence_of
from deployments.errors import ConfigError

# Of `run` and `deploy` in ray/serve/scripts.py, Ray 2.60.
WITH_VALUES = {"--runtime-env", "--runtime-env-json", "--working-dir", "--app-dir", "-d", "--address", "-a"}
WITH_VALUES |= {"--route-prefix", "--name"}
NO_NODE = "The current node timed out during startup."  # ray/_private/node.py, which has no class for it
TOO_SLOW = (
    "Ray did not start within its 30 s, most likely because the machine is busy: start again. If it happens again, "
    "Ray's own logs say more: gcs_server.out and raylet.out in session_latest/logs of its temp folder, as /tmp/ray."
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A config file with applications of ours: what it says, and for `serve run` how they stand here."""

    path: str
    config: Mapping[str, Any]
    applications: Sequence[Judged] = ()


class Found:
    """What this process has checked, and who started it."""

    checked: Checked | None = None
    parent = 0


def begin(verb: str, words: Sequence[str]) -> None:
    """Check the file that a command line names behind its verb. End the process with one sentence if it is wrong."""
    path, Found.parent = file_in(words), os.getppid()
    if path is None:
        return
    try:
        Found.checked = check_file(verb, path)
    except ConfigError as error:
        _end(str(error) if str(error).startswith(path) else f"{path}: {error}")
    sys.excepthook = _explain_with(path)


def file_in(words: Sequence[str]) -> str | None:
    """Return the config file among the words behind `run` or `deploy`; None for an import path, or none at all."""
    remaining = iter(words)
    for word in remaining:
        if word in WITH_VALUES:
            next(remaining, None)
        elif not word.startswith("-"):
            return word if _is_file_name(word) else None
    return None


def _is_file_name(word: str) -> bool:
    """Return whether a file is meant. Serve takes for an import path what is no file, and says so with a stack."""
    return os.path.isfile(word) or word.endswith((".yaml", ".yml")) or (":" not in word and "/" in word.rstrip("/"))


def check_file(verb: str, path: str) -> Checked | None:
    """Return what is to be run or deployed; None for other applications alone. Raises ConfigError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError("a folder, not a file" if os.path.isdir(path) else "no file that can be read twice")
    config = read_config(path)
    if not applications_of(config):
        return None
    if verb == "deploy":  # whose environment is not the cluster's
        check_alone(config)
        return Checked(path, config)
    return Checked(path, config, judge(path, config))


def _explain_with(path: str) -> Any:
    """Return a hook that tells in one sentence what Serve's schema refuses or Ray could not start, and no more."""
    usual = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
        if isinstance(error, ValidationError) and error.title.startswith("Serve"):
            print(f"{path}: {sentence_of(error)}", file=sys.stderr, flush=True)
        elif str(error).startswith(NO_NODE):
            print(TOO_SLOW, file=sys.stderr, flush=True)
        else:
            usual(kind, error, stack)

    return explain


def _end(sentence: str) -> None:
    """End at once: in the middle of Python's own start an exception would be called a fatal error of Python."""
    print(sentence, file=sys.stderr, flush=True)
    os._exit(1)

"""Which of Ray's own processes `serve run` starts beside the application.

Ray has no setting for it. `BREAKWATER_RAY_PROCESSES` says it:

all    what Ray starts by itself. Without the variable it is so too.
serve  all but the dashboard's processes for Ray Data and Ray Train.
few    no dashboard, no metrics for Prometheus, no autoscaler, no words of other processes on the terminal.

docs/performance.md says what that saves. `serve run` uses this for the Ray that it starts itself; on a cluster it is
`ray start --include-dashboard=false`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

VARIABLE = "BREAKWATER_RAY_PROCESSES"
ALL, SERVE, FEW = "all", "serve", "few"
CHOICES = (ALL, SERVE, FEW)
# Of ray/dashboard/modules, Ray 2.60, without those of Data and Train.
MODULES = (
    *("NodeHead", "ReportHead", "JobHead", "MetricsHead", "ServeHead", "StateHead", "EventHead", "TaskEventsHead"),
    *("UsageStatsHead", "PlatformEventsHead"),
)


def choice(environ: Mapping[str, str]) -> str | None:
    """Return what the environment says; None for what is none of the choices."""
    word = environ.get(VARIABLE, "") or ALL
    return word if word in CHOICES else None


def apply(word: str) -> None:
    """Have Ray start no more than this. To be called before it starts."""
    if word == SERVE:
        _with_modules(MODULES)
    elif word == FEW:
        _with_few()


def _with_modules(modules: Sequence[str]) -> None:
    from ray._private import ray_constants, services

    start = services.start_ray_process

    def start_some(command: list[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        chosen = any(word.startswith("--modules-to-load") for word in command)
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD and not chosen:
            command = [*command, f"--modules-to-load={','.join(modules)}"]
        return start(command, process_type, *arguments, **named)

    services.start_ray_process = start_some


def _with_few() -> None:
    """Have Ray take itself for an installation without `ray[default]`: its dashboard and agent then do the least."""
    from ray._private import utils
    from ray._private.node import Node

    def missing() -> ImportError:
        return ImportError(f"left out by {VARIABLE}={FEW}")

    def leave_out(_: Node) -> None:
        pass

    utils.get_dashboard_dependency_error = missing
    Node.start_monitor = Node.start_log_monitor = leave_out  # type: ignore[method-assign]

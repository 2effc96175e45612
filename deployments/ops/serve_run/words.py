"""What the terminal of `serve run` shows. Pure."""

import re
from collections.abc import Iterable, Mapping

EVERYWHERE = ("0.0.0.0", "::", "")
OF_RAYLET = re.compile(r"Task ServeController\.graceful_shutdown failed")  # because it has ended, as it should
# What Serve's controller says at each start, and nobody has to act on. A warning or an error passes.
EXCEPTION = re.compile(r"^[\w.]*(Error|Exception): ")
NOISE = re.compile(r"^(INFO .*|\s*•.*|\s*)$")


def url_of(options: Mapping[str, object], application: Mapping[str, object]) -> str:
    """Return where an application is reached from this machine, without a slash at its end."""
    host = str(options.get("host", "0.0.0.0"))
    shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    prefix = str(application.get("route_prefix") or "/").rstrip("/")
    return f"http://{shown}:{options.get('port', 8000)}{prefix}"


def ready(seconds: float, urls: Iterable[str], logs: str, dashboard: str, report: str) -> str:
    """Return the block that is shown once an application answers."""
    found = list(urls)
    where = "\n".join(f"  OpenAI's API     {url}/v1\n  console          {url}/" for url in found)
    return (
        f"\nBreakwater is ready after {seconds:.0f} s.\n\n{where}\n"
        f"  Ray's dashboard  {dashboard}  (`ray get-auth-token` prints the token that it asks for)\n"
        f"  logs             {logs}\n\n{report}\n\nCtrl-C stops it.\n"
    )


def still_starting(seconds: float, statuses: Mapping[str, str]) -> str:
    waiting = ", ".join(f"{name} is {status}" for name, status in statuses.items() if status != "HEALTHY")
    return f"Still starting after {seconds:.0f} s: {waiting or 'the proxy does not answer yet'}."


def failure(path: str, message: str, failed: Mapping[str, str]) -> str:
    """Return the sentence of a failed deploy, without a stack and without the name of an exception.

    `message` is what Serve says of the application, `failed` what it says of each deployment that failed. Without such
    a deployment it is the config at `path` that could not be built.
    """
    found = [f"{name}: {_last_line(text)}" for name, text in failed.items() if text.strip()]
    if found:
        return "\n".join(found)
    said = _last_line(message)
    return f"{path}: {said}" if said else "The deploy failed, and Ray Serve says nothing of it."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return EXCEPTION.sub("", lines[-1]) if lines else ""


def without_noise(log: Mapping[str, object]) -> dict[str, object] | None:
    """Return a batch of a process's lines without those that nobody needs; None if nothing is left."""
    noise = OF_RAYLET if log.get("pid") == "raylet" else NOISE if log.get("actor_name") == "ServeController" else None
    if noise is None:
        return dict(log)
    lines = log.get("lines")
    kept = [line for line in lines if not noise.match(str(line))] if isinstance(lines, list) else []
    return {**log, "lines": kept} if kept else None

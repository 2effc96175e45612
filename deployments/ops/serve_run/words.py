"""What the terminal of `serve run` shows. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence

from deployments.config.check import Judged
from deployments.config.places import Tier
from deployments.config.resolved import ResolvedConfig

MOST_NAMES = 6  # of models that are shown
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


def starting(applications: Sequence[Judged], urls: Mapping[str, str]) -> str:
    """Return what is shown before Ray starts: where it will answer, who is asked first, and who is left out."""
    lines: list[str] = []
    for each in applications:
        lines.append(
            f"Breakwater is starting at {urls[each.name]}/ (mode {each.resolved.config.mode}). It asks, in this order:"
        )
        width = max(len(tier.name) for tier in each.resolved.tiers)
        lines += [f"  {tier.name:{width}}  {_outlook(tier)}" for tier in each.resolved.tiers]
        lines += [f"  warning: {text}" for text in each.warnings]
    if any(_lacks_something(tier) for each in applications for tier in each.resolved.tiers):
        lines.append(
            "To add one that is left out, export its variable and start again: docs/credentials.md has them all."
        )
    return "\n".join([*lines, "It says when it is ready, which takes less than a minute on most machines."])


def _outlook(tier: Tier) -> str:
    """Return how a provider stands before it runs: nobody knows yet whether it answers."""
    if tier.left_out is not None:
        return f"left out: {tier.left_out}"
    if tier.places:
        called = sum(place.left_out is None for place in tier.places)
        return f"is asked, at {called} of {len(tier.places)} places"
    return "is asked" if tier.credential is None else f"is asked, by {tier.credential}"


def _lacks_something(tier: Tier) -> bool:
    return tier.left_out is not None and not tier.left_out.startswith("not in mode ")


def ready(
    seconds: float, applications: Sequence[Judged], urls: Mapping[str, str], logs: str, dashboard: str | None
) -> str:
    """Return the block that is shown once all applications answer. `dashboard`: the URL of Ray's, if it has one."""
    lines = [f"\nBreakwater is ready after {seconds:.0f} s."]
    for each in applications:
        lines += [f"  {what:14}  {text}" for what, text in _of_one(each.resolved, urls[each.name])]
    lines.append(f"  logs            {logs}")
    if dashboard is not None:
        lines.append(f"  Ray's page      {dashboard}  (`ray get-auth-token` prints the token that it asks for)")
    return "\n".join([*lines, "Ctrl-C stops it.\n"])


def _of_one(resolved: ResolvedConfig, url: str) -> Iterator[tuple[str, str]]:
    yield "console", f"{url}/"
    yield "OpenAI's API", f"{url}/v1"
    rows = {**resolved.rows(), **resolved.embedding_rows()}
    yield "models", _some([row for row, targets in rows.items() if targets])
    yield "ready", ", ".join(resolved.usable)
    if resolved.left_out():
        yield "left out", f"{', '.join(resolved.left_out())} (the reasons are above)"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


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

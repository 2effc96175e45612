"""Check a Serve config file without starting anything.

    python -m deployments.config serve_config.yaml

prints tiers, rows and missing credentials, or one sentence on the first error, and then exits with 1.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from dataclasses import replace

import yaml

from deployments.config.application import INGRESS, apply_user_config, parse
from deployments.config.resolved import resolve
from deployments.errors import ConfigError

ENVIRONMENT = pathlib.Path(__file__).parents[2] / "serve.env"
EVERYWHERE = "0.0.0.0"  # where Serve listens by default if it is started by a config file


def read_applications(path: str) -> list[tuple[dict[str, object], str]]:
    """Return our applications in a Serve config file, each with the host it is served at. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    applications = data.get("applications") if isinstance(data, dict) else None
    ours = [
        a for a in applications or [] if isinstance(a, dict) and a.get("import_path") == "deployments.app:build_app"
    ]
    if not ours:
        raise ConfigError(f"{path}: no application with import_path deployments.app:build_app")
    options = data.get("http_options")
    host = options.get("host", EVERYWHERE) if isinstance(options, dict) else EVERYWHERE
    return [(application, str(host)) for application in ours]


def environment_of_ray() -> Mapping[str, str]:
    """Return the environment in which Ray starts, as far as that is known: ours, over the one in serve.env."""
    lines = ENVIRONMENT.read_text(encoding="utf-8").splitlines() if ENVIRONMENT.exists() else []
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | dict(os.environ)


def check(path: str) -> str:
    """Return a report on a Serve config file. Raises ConfigError."""
    lines: list[str] = []
    environment = environment_of_ray()
    for application, host in read_applications(path):
        resolved = resolve(parse(application.get("args")))
        if (why := resolved.config.explain_exposure(host)) is not None:
            raise ConfigError(why)
        known = {INGRESS, *resolved.config.providers}
        overrides = application.get("deployments") or []
        if not isinstance(overrides, list) or not all(isinstance(o, dict) for o in overrides):
            raise ConfigError("deployments: must be a list of options, each with a name")
        for override in overrides:
            if override.get("name") == INGRESS:
                resolved = replace(resolved, config=apply_user_config(resolved.config, override.get("user_config")))
            if override.get("name") not in known:
                raise ConfigError(
                    f"deployments.{override.get('name')}: no such deployment (known: {', '.join(sorted(known))})"
                )
        lines += [f"application {application.get('name', 'default')}, mode {resolved.config.mode}", "tiers:"]
        for number, tier in enumerate(resolved.tiers, 1):
            state = "ready" if tier.left_out is None else f"left out: {tier.left_out}"
            lines.append(f"  {number}. {tier.name} ({tier.kind}): {state}")
        lines.append("rows:")
        for row, targets in resolved.rows().items():
            lines.append(f"  {row}: {' > '.join(targets) or 'no provider can be called'}")
        lines += [f"warning: {warning}" for warning in resolved.warnings(environment)]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the report on the file that `arguments` name, and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m deployments.config serve_config.yaml", file=sys.stderr)
        return 2
    try:
        print(check(arguments[0]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0

"""Check a Serve config file without starting anything.

    python -m deployments.config serve_config.yaml

prints tiers, rows and missing credentials, or one sentence on the first error, and then exits with 1.
"""

import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deployments.config.application import INGRESS, Config, apply_user_config, parse
from deployments.config.places import PlaceState, Tier
from deployments.config.resolved import ResolvedConfig, resolve
from deployments.config.yaml_file import read_yaml
from deployments.errors import ConfigError
from deployments.secrecy import shown
from deployments.validation import meant

ENVIRONMENT = pathlib.Path(__file__).parents[2] / "serve.env"
IMPORT_PATH = "deployments.app:build_app"  # of an application of ours
EVERYWHERE = "0.0.0.0"  # where Serve listens by default if it is started by a config file


def read_config(path: str) -> dict[str, Any]:
    """Return what a Serve config file says, with a list of applications. Raises ConfigError with one sentence."""
    data: Any = read_yaml(path)
    if data is None or data == {}:
        raise ConfigError(f"{path}: the file is empty")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be an object with applications, as serve_config.yaml is")
    applications = data.get("applications")
    if applications is None:
        raise ConfigError(f"{path}: applications: required key is missing")
    if not isinstance(applications, list) or not all(isinstance(each, dict) for each in applications):
        raise ConfigError(f"{path}: applications: must be a list: each one begins with a dash, as - name: llm")
    return data


def applications_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return our applications in a Serve config; there may be none."""
    return [each for each in config["applications"] if each.get("import_path") == IMPORT_PATH]


def read_applications(path: str) -> list[dict[str, Any]]:
    """Return our applications in a Serve config file. Raises ConfigError, also if there is none."""
    return _found(path, read_config(path))


def _found(path: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not (ours := applications_of(config)):
        raise ConfigError(f"{path}: no application with import_path {IMPORT_PATH}")
    return ours


def serve_env() -> dict[str, str]:
    """Return the variables of serve.env; none if there is no such file."""
    lines = ENVIRONMENT.read_text(encoding="utf-8").splitlines() if ENVIRONMENT.exists() else []
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment_of_ray() -> Mapping[str, str]:
    """Return the environment in which Ray starts, as far as that is known: ours, over the one in serve.env."""
    return serve_env() | dict(os.environ)


def check(path: str) -> str:
    """Return a report on a Serve config file. Raises ConfigError."""
    return report_on(path, read_config(path))


@dataclass(frozen=True)
class Judged:
    """An application of ours as this environment has it, and what is most likely not meant."""

    name: str
    resolved: ResolvedConfig
    warnings: list[str]


def judge(path: str, config: Mapping[str, Any]) -> list[Judged]:
    """Return our applications in a Serve config file. Raises ConfigError."""
    environment, host = environment_of_ray(), _host_of(config)
    return [_judge(each, host, environment) for each in _found(path, config)]


def report_on(path: str, config: Mapping[str, Any]) -> str:
    """Return a report on what a Serve config file says. Raises ConfigError."""
    return "\n".join(line for each in judge(path, config) for line in _report(each))


def check_alone(config: Mapping[str, Any]) -> None:
    """Check what the file alone decides, for a cluster whose environment is not this one. Raises ConfigError."""
    for application in applications_of(config):
        parsed = parse(application.get("args"))
        if (why := parsed.explain_exposure(_host_of(config))) is not None:
            raise ConfigError(why)
        _with_overrides(parsed, application.get("deployments") or [])


def _host_of(config: Mapping[str, Any]) -> str:
    options = config.get("http_options")
    return str(options.get("host", EVERYWHERE) if isinstance(options, dict) else EVERYWHERE)


def _judge(application: Mapping[str, object], host: str, environment: Mapping[str, str]) -> Judged:
    resolved = resolve(parse(application.get("args")))
    warning = _judge_exposure(resolved.config, host, environment)
    config = _with_overrides(resolved.config, application.get("deployments") or [])
    resolved = replace(resolved, config=config)
    warnings = [*resolved.warnings(environment), *([] if warning is None else [warning])]
    return Judged(str(application.get("name", "default")), resolved, warnings)


def _report(judged: Judged) -> Iterator[str]:
    resolved = judged.resolved
    yield f"application {judged.name}, mode {resolved.config.mode}"
    yield "tiers:"
    for number, tier in enumerate(resolved.tiers, 1):
        yield f"  {number}. {tier.name} ({_kind(resolved, tier)}): {_state(tier)}"
        yield from (f"       {place.name}: {_words(place)}" for place in tier.places)
    yield "rows:"
    for row, targets in resolved.rows().items():
        yield f"  {row}: {' > '.join(targets) or 'no provider can be called'}"
    for text in judged.warnings:
        yield f"warning: {text}"


def _kind(resolved: ResolvedConfig, tier: Tier) -> str:
    """Return a provider's kind, and by which of its APIs it is asked where it has another."""
    api = getattr(resolved.config.providers[tier.name], "api", "chat")
    return tier.kind if api == "chat" else f"{tier.kind}, api {api}"


def _state(tier: Tier) -> str:
    if not tier.places:
        return _words(tier)
    called = sum(place.left_out is None for place in tier.places)
    return f"{'ready' if called else 'left out'}, {called} of {len(tier.places)} places"


def _words(one: Tier | PlaceState) -> str:
    """Return whether it can be called, and by which credential, in words that do not show it."""
    if one.left_out is not None:
        return f"left out: {one.left_out}"
    return "ready" if one.credential is None else f"ready, by {one.credential}"


def _judge_exposure(config: Config, host: str, environment: Mapping[str, str]) -> str | None:
    """Return what the deploy would say if Ray had no token. Raises ConfigError for what it will say in any case.

    The cluster's nodes are not known here. Where RAY_AUTH_MODE is not set, a token's file there decides.
    """
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    protected = mode == "token" or environment.get("RAY_USE_TLS", "").lower() in ("1", "true")
    cluster = config.explain_open_cluster(host, 1, protected=protected)
    if (why := config.explain_exposure(host) or (cluster if mode == "disabled" else None)) is not None:
        raise ConfigError(why)
    return cluster


def _with_overrides(config: Config, overrides: object) -> Config:
    """Return the config as the options of its deployments leave it. Raises ConfigError for options that are none."""
    if not isinstance(overrides, list) or not all(isinstance(o, dict) for o in overrides):
        raise ConfigError("deployments: must be a list of options, each with a name")
    known = {INGRESS, *config.providers}
    for override in overrides:
        name = override.get("name")
        if name not in known:
            names = ", ".join(map(shown, sorted(known)))
            raise ConfigError(f"deployments.{shown(name)}: no such deployment (known: {names}){meant(name, known)}")
        if name == INGRESS:
            config = apply_user_config(config, override.get("user_config"))
    return config


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

"""build_app: the only file that says `serve.deployment` or `.bind`.

Every configured provider gets a deployment, so that an override by its name in serve_config.yaml
always holds; one that is left out starts without replicas.
"""

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

from deployments.config.application import INGRESS, LOOPBACK, Tier, parse, resolve
from deployments.errors import ConfigError
from deployments.ingress.deployment import Ingress
from deployments.replica import ProviderReplica
from deployments.rpc.client import replica_capacity
from deployments.rpc.p2c_router import LeastCallsRouter

# Calls last for seconds: a mean over 15 s tells load from a spike (Serve wants it over more than 10). So the next
# replicas are asked for 8 to 14 s after a burst; with Serve's own 30 s of mean and 30 s of delay it was 38 s.
_SOON: Mapping[str, Any] = {"min_replicas": 1, "look_back_period_s": 15, "upscale_delay_s": 5}
# Waiting for a network takes a tenth of a core; five tiers must fit beside each other on one core.
_REMOTE: Mapping[str, Any] = {
    "ray_actor_options": {"num_cpus": 0.1},
    "max_ongoing_requests": 256,  # as many as one process can begin within about two seconds
    # Serve hands a burst on only when all of it has come, so a line must hold one; what finds no room is `busy`, and
    # the next provider is asked. It must not hold more: who waits there longer than connect and first token may take
    # is `unreachable`, and three of those open the circuit of a provider that is well.
    "max_queued_requests": 128,
    # 32 streams of 25 to 50 frames a second are a third to over half of a core: room until the next replica is there.
    "autoscaling_config": {**_SOON, "max_replicas": 8, "target_ongoing_requests": 32},
    # As long as an answer may take. Whoever streams from a replica that goes is cut then; see serve.env for HAProxy.
    "graceful_shutdown_timeout_s": 900,
}
_ROUTER: Any = LeastCallsRouter
# Most calls come over lanes, not as handle calls: it is calls that must be balanced.
_SHARED: Mapping[str, Any] = {
    **_REMOTE,
    "request_router_config": RequestRouterConfig(request_router_class=_ROUTER),
}
# Two sequences at a time on one thread: what does not fit waits in the replica, and soon in the queue.
_LOCAL: Mapping[str, Any] = {
    **_REMOTE,
    "ray_actor_options": {"num_cpus": 0.5, "runtime_env": {"env_vars": {"OMP_WAIT_POLICY": "passive"}}},
    "max_ongoing_requests": 16,
    "max_queued_requests": 8,  # the wait in line and that for a slot together are shorter than a first token may take
    "autoscaling_config": {**_SOON, "max_replicas": 2, "target_ongoing_requests": 2},
}
_INGRESS: Mapping[str, Any] = {
    **_REMOTE,
    "max_ongoing_requests": 1024,
    "max_queued_requests": 4096,  # beyond it Serve would answer, not we; HAProxy takes 4096 connections in all
    # It carries every provider's streams, and a frame costs it nearly as much as a provider's replica.
    "autoscaling_config": {**_SOON, "max_replicas": 8, "target_ongoing_requests": 64},
}


def build_app(args: dict[str, Any]) -> Application:
    """The application that serve_config.yaml describes under `args`.

    A wrong config is a RayServeException of one sentence: for that one Serve fails the deploy at once
    and shows the sentence as the application's status; any other it would try three times more. It
    goes to stderr too, which is what `serve run` shows.
    """
    try:
        return _built(args)
    except ConfigError as error:
        print(f"serve_config.yaml: {error}", file=sys.stderr, flush=True)
        raise RayServeException(f"serve_config.yaml: {error}") from None


def _built(args: dict[str, Any]) -> Application:
    layout = resolve(parse(args))
    if (why := layout.config.explain_exposure(_host())) is not None:
        raise ConfigError(why)
    providers = {tier.name: _provider(tier, args) for tier in layout.tiers}
    # Serve calls `reconfigure` only where there is a user_config; an override replaces this empty one.
    ingress = _deployment(serve.ingress()(Ingress), name=INGRESS, user_config={}, **_INGRESS)
    return ingress.bind(args, providers)


def _host() -> str:
    """Where Serve listens; a builder that runs outside of a cluster can't know."""
    with contextlib.suppress(Exception):
        client: Any = serve.context._get_global_client(raise_if_no_controller_running=False)
        return str(client.http_config.host)
    return LOOPBACK


def _provider(tier: Tier, args: Mapping[str, Any]) -> Application:
    options = {**(_LOCAL if tier.kind == "local" else _SHARED)}
    if tier.left_out is not None:
        options["autoscaling_config"] = {**options["autoscaling_config"], "min_replicas": 0, "initial_replicas": 0}
    return _deployment(ProviderReplica, name=tier.name, **options).bind(
        tier.name, args, tier.left_out, replica_capacity
    )


def _deployment(cls: Any, **options: Any) -> Deployment:
    deployment: Deployment = serve.deployment(**options)(cls)
    return deployment

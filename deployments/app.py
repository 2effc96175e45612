"""Build the Serve application: the only file that calls `serve.deployment` or `.bind`.

Each configured provider has a deployment, so that an override by its name in serve_config.yaml always applies. A
provider that is left out starts without replicas.
"""

import contextlib
import os
import sys
from typing import Any

import ray
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

from actors.ray_metrics import meter_of_replica
from deployments.config.application import INGRESS, LOOPBACK, Config, parse
from deployments.config.places import Tier
from deployments.config.resolved import resolve
from deployments.errors import ConfigError
from deployments.ingress.deployment import Ingress
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.kinds import KINDS
from deployments.replica import ProviderReplica
from deployments.rpc.client import replica_capacity
from deployments.rpc.framing import is_encrypted
from deployments.rpc.p2c_router import LeastCallsRouter

# Calls last for seconds: a mean over 15 s tells load from a spike (Serve wants it over more than 10). So new replicas
# are requested 8 to 14 s after a burst begins; with Serve's own mean of 30 s and delay of 30 s it was 38 s.
_SCALING: JsonObject = {"min_replicas": 1, "look_back_period_s": 15, "upscale_delay_s": 5}
# Waiting for a network takes a tenth of a core; five tiers must fit beside each other on one core.
_REMOTE: JsonObject = {
    "ray_actor_options": {"num_cpus": 0.1},
    "max_ongoing_requests": 256,  # as many as one process can begin within about two seconds
    # Serve hands a burst on only after all of it has arrived, so the queue must hold one. A call that finds the queue
    # full is `busy`, and the next provider is tried. The queue must not be longer: a call that waits for longer than
    # the limits of connect and first token is `unreachable`, and three of those open the circuit of a healthy provider.
    "max_queued_requests": 128,
    # 32 streams of 25 to 50 frames a second take a third to over half of a core: room until the next replica starts.
    "autoscaling_config": {**_SCALING, "max_replicas": 8, "target_ongoing_requests": 32},
    # As long as an answer may take. A stream that is longer is cut when its replica stops; see serve.env for HAProxy.
    "graceful_shutdown_timeout_s": 900,
    # New replicas start before the old ones stop. By default a redeploy stops the old ones first, and requests that
    # come meanwhile overrun the queues.
    "max_surge_percent": 100,
}
_ROUTER: Any = LeastCallsRouter
# Most calls arrive over connections, not as handle calls: the router must balance calls.
_POOLED: JsonObject = {
    **_REMOTE,
    "request_router_config": RequestRouterConfig(request_router_class=_ROUTER),
}
_INGRESS: JsonObject = {
    **_REMOTE,
    "max_ongoing_requests": 1024,
    "max_queued_requests": 4096,  # beyond it Serve would answer, not we; HAProxy takes 4096 connections in all
    # An ingress carries the streams of all providers, and a frame costs it nearly as much as it costs their replicas.
    "autoscaling_config": {**_SCALING, "max_replicas": 8, "target_ongoing_requests": 64},
}


def build_app(args: JsonDict) -> Application:
    """Return the application that serve_config.yaml describes under `args`.

    Raises RayServeException with one sentence if the config is wrong. For this exception Serve fails the deploy at
    once, and shows the sentence as the application's status; it would retry any other three times. The sentence goes
    to stderr too, where `serve run` shows it. It names no file: what one said has come here without its name.
    """
    try:
        return _build(args)
    except ConfigError as error:
        print(error, file=sys.stderr, flush=True)
        raise RayServeException(str(error)) from None


def _build(args: JsonDict) -> Application:
    layout = resolve(parse(args))
    _refuse_exposure(layout.config)
    providers = {tier.name: _provider(tier, args) for tier in layout.tiers}
    # Serve calls `reconfigure` only where there is a user_config; an override replaces this empty one.
    ingress = _deployment(serve.ingress()(Ingress), name=INGRESS, user_config={}, **_INGRESS)
    return ingress.bind(args, providers)


def _refuse_exposure(config: Config) -> None:
    """Raise ConfigError if strangers could ask for answers without a key, or reach Ray without its token."""
    host = _host()
    why = config.explain_exposure(host) or config.explain_open_cluster(host, _nodes(), protected=_protected())
    if why is not None:
        raise ConfigError(why)


def _nodes() -> int:
    nodes: Any = ray.nodes() if ray.is_initialized() else [{"Alive": True}]  # type: ignore[no-untyped-call]
    return sum(bool(node["Alive"]) for node in nodes)


def _protected() -> bool:
    """Return whether Ray refuses strangers. This process takes part in the cluster, so its mode is the cluster's."""
    known: Any = ray._raylet
    return bool(known.get_authentication_mode() == known.AuthenticationMode.TOKEN) or is_encrypted(os.environ)


def _host() -> str:
    """Return the host that Serve listens at. Outside of a cluster it is unknown, and taken as loopback."""
    if not ray.is_initialized():
        return LOOPBACK  # Serve would start a cluster to look
    with contextlib.suppress(Exception):
        client: Any = serve.context._get_global_client(raise_if_no_controller_running=False)
        return str(client.http_config.host)
    return LOOPBACK


def _provider(tier: Tier, args: JsonObject) -> Application:
    kind = KINDS[tier.kind]
    options = _options(_REMOTE if kind.in_process else _POOLED, kind.replica_options)
    if tier.left_out is not None:
        options = _options(options, {"autoscaling_config": {"min_replicas": 0, "initial_replicas": 0}})
    return _deployment(ProviderReplica, name=tier.name, **options).bind(
        tier.name, args, tier.left_out, replica_capacity, meter_of_replica
    )


def _options(defaults: JsonObject, over: JsonObject) -> JsonDict:
    """Return the options with those of `over` in place of the defaults; of the scaling, key by key."""
    scaling = {**defaults["autoscaling_config"], **over.get("autoscaling_config", {})}
    return {**defaults, **over, "autoscaling_config": scaling}


def _deployment(cls: Any, **options: Any) -> Deployment:
    deployment: Deployment = serve.deployment(**options)(cls)
    return deployment

"""Print the RayService for KubeRay, made from `serve_config.yaml` and `serve.env`, so that no setting stands twice.

    uv run python -m deployments.ops.kuberay.rayservice > deployments/ops/kuberay/base/rayservice.yaml
    uv run python -m deployments.ops.kuberay.rayservice --small > deployments/ops/kuberay/small/workers.yaml

The field names are those of KubeRay 1.7 (`ray.io/v1`). Why each is there stands beside it.
"""

import importlib.metadata
import sys
from typing import Any

from deployments.config.check import serve_env
from deployments.ops.cluster_config import HOME, dump, serve_config

IMAGE = "breakwater"  # `images` of an overlay names the real one
LONGEST_STREAM = 900  # seconds: `graceful_shutdown_timeout_s` of the deployments
SECRET = "breakwater"  # keys of providers, of callers and of operators, and the URL of the ledger
PROVIDER_KEYS = ("OPENAI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "AWS_BEARER_TOKEN_BEDROCK")
LABELS = {"app.kubernetes.io/name": "breakwater"}
# Only `serve run` has a use for these.
OF_SERVE_RUN = frozenset({"RAY_ADDRESS", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "PYTHONPATH", "BREAKWATER_RAY_PROCESSES"})

HEADER = """\
# Made by: uv run python -m deployments.ops.kuberay.rayservice > deployments/ops/kuberay/base/rayservice.yaml
# A change of serveConfigV2 is applied in place, without a loss. A change of anything else makes a new cluster beside
# the old one, and KubeRay then moves the Service.
"""
SMALL_HEADER = """\
# Made by: uv run python -m deployments.ops.kuberay.rayservice --small > deployments/ops/kuberay/small/workers.yaml
"""


def environment() -> dict[str, str]:
    """Return the variables of `serve.env` for all pods: head and workers must agree."""
    kept = {name: value for name, value in serve_env().items() if name not in OF_SERVE_RUN}
    kept["RAY_SERVE_HAPROXY_BINARY_PATH"] = f"{HOME}/deployments/ops/haproxy"
    # The Service gives each node its share, so a node's requests may stay there: another node's death then cuts none.
    kept["BREAKWATER_HAPROXY_NEAR"] = "1"
    # How long the head waits for a node that has vanished, five times in a row; 10000 by default.
    kept["RAY_health_check_timeout_ms"] = "3000"
    return kept | {"PYTHONPATH": f"{HOME}:{HOME}/deployments/ops/serve_run/site"}


def _plain(variables: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _secrets(*names: str, optional: bool) -> list[dict[str, Any]]:
    where = {"name": SECRET, **({"optional": True} if optional else {})}
    return [{"name": name, "valueFrom": {"secretKeyRef": {**where, "key": name}}} for name in names]


def _our_secrets() -> list[dict[str, Any]]:
    ours = "BREAKWATER_API_KEYS", "BREAKWATER_ADMIN_KEY", "BREAKWATER_LEDGER_URL"
    return [*_secrets(*ours, optional=False), *_secrets("AWS_REGION", *PROVIDER_KEYS, optional=True)]


def _container(name: str, env: list[dict[str, Any]], resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "env": env,
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "state", "mountPath": f"{HOME}/state"},
        ],
        **more,
    }


def _pod(container: dict[str, Any], seconds: int, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": LABELS},
        "spec": {
            "terminationGracePeriodSeconds": seconds,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "state", "emptyDir": {}}],
            **more,
        },
    }


def _head() -> dict[str, Any]:
    memory = {"memory": "4Gi"}
    container = _container(
        "ray-head",
        [*_plain(environment()), *_our_secrets()],
        {"requests": {"cpu": "1", **memory}, "limits": {"cpu": "2", **memory}},
        ports=[
            {"containerPort": 6379, "name": "gcs"},
            {"containerPort": 8265, "name": "dashboard"},
            {"containerPort": 8080, "name": "metrics"},
            {"containerPort": 8000, "name": "serve"},
        ],
    )
    # No replica runs on the head, so its death takes no answer with it. But the application may be built there, which
    # leaves out each provider whose key it does not find, and the actors may run there.
    return {"rayStartParams": {"num-cpus": "0"}, "template": _pod(container, 60)}


def _workers() -> dict[str, Any]:
    drain = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(LONGEST_STREAM + 30)}
    env = [*_plain(environment() | drain), *_our_secrets()]
    memory = {"memory": "4Gi"}
    container = _container(
        "ray-worker",
        env,
        {"requests": {"cpu": "2", **memory}, "limits": {"cpu": "2", **memory}},
        ports=[{"containerPort": 8080, "name": "metrics"}, {"containerPort": 8000, "name": "serve"}],
        # HAProxy's own word: 200 where an application has a server, 503 while the node drains. It needs no tool.
        readinessProbe={"httpGet": {"path": "/-/healthz", "port": 8000}, "periodSeconds": 5, "failureThreshold": 2},
    )
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": LABELS},
    }
    # Its own token of Kubernetes is of no use to a worker, and would be of use to who breaks into it.
    more = {"topologySpreadConstraints": [spread], "automountServiceAccountToken": False}
    return {
        "groupName": "workers",
        "labels": {"breakwater": "actors"},  # the breaker and the ledger then outlive the head
        "replicas": 2,
        "minReplicas": 2,
        "maxReplicas": 8,
        "rayStartParams": {},
        "template": _pod(container, LONGEST_STREAM + 60, **more),
    }


def ray_service() -> dict[str, Any]:
    redis_password = {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": "REDIS_PASSWORD"}}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "breakwater", "labels": LABELS},
        "spec": {
            # Else the operator asks the head whether it serves, and it never does.
            "excludeHeadPodFromServeSvc": True,
            # Pods of the old cluster get SIGTERM after it, whatever they serve: all streams must be over by then.
            "rayClusterDeletionDelaySeconds": LONGEST_STREAM + 60,
            "upgradeStrategy": {"type": "NewCluster"},
            "serveConfigV2": serve_config(),
            "rayClusterConfig": {
                "rayVersion": importlib.metadata.version("ray"),
                "authOptions": {"mode": "token"},
                # Without externalStorageNamespace: with a fixed one a new cluster finds the proxies of the old one.
                "gcsFaultToleranceOptions": {"redisAddress": "breakwater-redis:6379", "redisPassword": redis_password},
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 600},
                "headGroupSpec": _head(),
                "workerGroupSpecs": [_workers()],
            },
        },
    }


def small_patch() -> list[dict[str, Any]]:
    """Return what a small cluster changes: one worker, and one replica of each deployment."""
    workers = "/spec/rayClusterConfig/workerGroupSpecs/0"
    changed: dict[str, object] = {"/spec/serveConfigV2": serve_config(small=True)}
    changed |= {f"{workers}/{name}": 1 for name in ("replicas", "minReplicas")} | {f"{workers}/maxReplicas": 2}
    return [{"op": "replace", "path": path, "value": value} for path, value in changed.items()]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--small"]):
        print(__doc__, file=sys.stderr)
        return 2
    sys.stdout.write(SMALL_HEADER + dump(small_patch()) if arguments else HEADER + dump(ray_service()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

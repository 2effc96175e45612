"""The manifests for KubeRay, checked without Kubernetes: by KubeRay's own schema, kubernetes-validate and kustomize."""

import copy
import math
import pathlib
import subprocess
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.config.application import parse
from deployments.ops.kuberay import rayservice
from tests.containers.manifests import FOLDER, OVERLAYS, built, command, documents, of_kind, ray_service, schema
from tests.containers.manifests import serve_config as config_of

LONGEST = rayservice.LONGEST_STREAM


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """Head and workers."""
    cluster = ray_service(overlay)["spec"]["rayClusterConfig"]
    [workers] = cluster["workerGroupSpecs"]
    return {"head": cluster["headGroupSpec"]["template"]["spec"], "workers": workers["template"]["spec"]}


def environment(overlay: str, pod: str) -> dict[str, Any]:
    [container] = pods(overlay)[pod]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ray_service_is_one_by_kuberays_own_schema(overlay: str) -> None:
    jsonschema.validate(ray_service(overlay), schema())


@pytest.mark.parametrize(
    "path", [("spec",), ("spec", "rayClusterConfig"), ("spec", "rayClusterConfig", "headGroupSpec", "template", "spec")]
)
def test_a_field_that_kuberay_does_not_know_is_found(path: tuple[str, ...]) -> None:
    wrong = copy.deepcopy(ray_service("base"))
    place = wrong
    for name in path:
        place = place[name]
    place["terminationGraceSeconds"] = 1
    with pytest.raises(jsonschema.ValidationError, match="terminationGraceSeconds"):
        jsonschema.validate(wrong, schema())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_else_is_what_kubernetes_takes(overlay: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "all.yaml").write_text(built(overlay))
    arguments = ["--strict", "-k", "1.34", str(tmp_path / "all.yaml")]
    done = subprocess.run([command("kubernetes-validate"), *arguments], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    known = [d for d in documents(overlay) if d["apiVersion"] not in ("ray.io/v1", "monitoring.coreos.com/v1")]
    assert said.count(" passed for ") == len(known) >= 4, said


@pytest.mark.parametrize(("arguments", "file"), [([], "base/rayservice.yaml"), (["--small"], "small/workers.yaml")])
def test_what_repeats_our_own_settings_is_made_of_them(
    arguments: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rayservice.main(arguments) == 0
    assert capsys.readouterr().out == (FOLDER / file).read_text(), f"{file} is old: its first line says how it is made"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_serve_takes_the_config_and_so_do_we(overlay: str) -> None:
    config = config_of(overlay)
    deploy = ServeDeploySchema.model_validate(config)
    assert deploy.http_options.host == "0.0.0.0"
    [application] = config["applications"]
    parsed = parse(application["args"])
    assert parsed.explain_exposure("0.0.0.0") is None  # it asks for keys
    assert parsed.ledger is not None
    assert parsed.ledger.url_env == "BREAKWATER_LEDGER_URL"
    names = {"Ingress", *application["args"]["providers"]}
    assert {deployment["name"] for deployment in application.get("deployments", [])} <= names


@pytest.mark.parametrize("overlay", ["base", "production"])
def test_a_redeploy_finds_room_on_the_fewest_workers(overlay: str) -> None:
    [workers] = ray_service(overlay)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for deployment in config_of(overlay)["applications"][0]["deployments"]:
        replicas = deployment["autoscaling_config"]["min_replicas"]
        most = deployment["max_replicas_per_node"]
        surge = math.floor(replicas * deployment["max_surge_percent"] / 100)
        assert most < replicas, "one node's death takes all of them"
        assert surge >= 1
        assert replicas + surge <= most * workers["minReplicas"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_ends_before_its_streams_have(overlay: str) -> None:
    spec, env = ray_service(overlay)["spec"], environment(overlay, "workers")
    drain = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert LONGEST < drain < pods(overlay)["workers"]["terminationGracePeriodSeconds"]
    assert spec["rayClusterDeletionDelaySeconds"] > LONGEST
    assert int(env["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) >= LONGEST
    for pod in pods(overlay).values():  # a hook with `ray stop` would kill before the drain
        assert "lifecycle" not in pod["containers"][0]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_head_and_workers_agree_and_have_all_of_serve_env(overlay: str) -> None:
    head, workers = environment(overlay, "head"), environment(overlay, "workers")
    assert head == {name: value for name, value in workers.items() if name != "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"}
    assert {name: workers[name] for name in rayservice.environment()} == rayservice.environment()
    assert "RAY_ADDRESS" not in workers  # KubeRay's own names the head


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_stands_in_a_manifest(overlay: str) -> None:
    for pod in ("head", "workers"):
        for name, value in environment(overlay, pod).items():
            if any(word in name for word in ("KEY", "PASSWORD", "LEDGER_URL", "TOKEN_BEDROCK")):
                assert value["secretKeyRef"]["name"] == "breakwater", name
    assert not of_kind(overlay, "Secret")
    example = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())
    needed = {"BREAKWATER_API_KEYS", "BREAKWATER_ADMIN_KEY", "BREAKWATER_LEDGER_URL", "REDIS_PASSWORD"}
    assert needed <= example["stringData"].keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_no_more_than_they_need_to_be(overlay: str) -> None:
    for pod in pods(overlay).values():
        assert pod["securityContext"]["runAsNonRoot"]
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", f"{rayservice.HOME}/state"} <= mounted  # HAProxy, Ray and the journal write there
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert {port["name"] for port in container["ports"]} >= {"metrics", "serve"}
        assert not any(port["containerPort"] == 10001 for port in container["ports"])  # Ray Client runs code
    assert pods(overlay)["workers"]["automountServiceAccountToken"] is False
    assert pods(overlay)["workers"]["containers"][0]["readinessProbe"]["httpGet"] == {
        "path": "/-/healthz",
        "port": 8000,
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_cluster_has_a_store_that_outlives_its_head_and_a_token(overlay: str) -> None:
    cluster = ray_service(overlay)["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    store = cluster["gcsFaultToleranceOptions"]
    assert "externalStorageNamespace" not in store  # a fixed one finds the old cluster's proxies again
    [redis] = of_kind(overlay, "StatefulSet")
    [service] = [d for d in of_kind(overlay, "Service") if d["metadata"]["name"] == redis["spec"]["serviceName"]]
    assert store["redisAddress"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert "--appendonly yes" in redis["spec"]["template"]["spec"]["containers"][0]["command"][-1]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_strangers_reach_none_of_rays_ports(overlay: str) -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind(overlay, "NetworkPolicy")}
    assert policies["breakwater"]["podSelector"]["matchLabels"] == rayservice.LABELS
    own = [{"podSelector": {"matchLabels": rayservice.LABELS}}]
    opened = {port["port"] for rule in policies["breakwater"]["ingress"] for port in rule.get("ports", [])}
    without = [rule for rule in policies["breakwater"]["ingress"] if "ports" not in rule]
    assert opened == {8000, 8080, 8265}
    assert [rule["from"] for rule in without] == [own]
    for pod in ("headGroupSpec", "workerGroupSpecs"):
        spec = ray_service(overlay)["spec"]["rayClusterConfig"][pod]
        template = (spec if isinstance(spec, dict) else spec[0])["template"]
        assert rayservice.LABELS.items() <= template["metadata"]["labels"].items()


def test_workers_go_one_at_a_time_and_the_head_when_it_must() -> None:
    for overlay in ("base", "production"):
        [budget] = of_kind(overlay, "PodDisruptionBudget")
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"]["matchLabels"]["ray.io/group"] == "workers"
    assert not of_kind("small", "PodDisruptionBudget")


def test_an_overlay_names_the_image_of_all_pods(tmp_path: pathlib.Path) -> None:
    (tmp_path / "base").symlink_to(FOLDER / "base")
    images = [{"name": "breakwater", "newName": "registry.example/breakwater", "newTag": "1"}]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["base"], "images": images}))
    done = subprocess.run([command("kubectl"), "kustomize", str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.count("image: registry.example/breakwater:1") == 2, done.stderr

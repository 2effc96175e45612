"""The manifests as kustomize builds them, and KubeRay's own schema of a RayService.

The schema is `openAPIV3Schema` of version v1 in `ray-operator/config/crd/bases/ray.io_rayservices.yaml` of KubeRay
(Apache-2.0) at feeaf72facab, of 2026-08-19, without its descriptions.
"""

import functools
import json
import pathlib
import subprocess
import sys
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "ops" / "kuberay"
OVERLAYS = ("base", "small", "production")


def command(name: str) -> str:
    """The path of a program of this environment."""
    return str(pathlib.Path(sys.executable).parent / name)


@functools.cache
def built(overlay: str) -> str:
    done = subprocess.run([command("kubectl"), "kustomize", str(FOLDER / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(built(overlay)))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(overlay) if document["kind"] == kind]


def ray_service(overlay: str) -> dict[str, Any]:
    [found] = of_kind(overlay, "RayService")
    return found


def serve_config(overlay: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(ray_service(overlay)["spec"]["serveConfigV2"])
    return found


@functools.cache
def schema() -> dict[str, Any]:
    """KubeRay's schema, which refuses what it does not know: the API server would drop that in silence."""
    found: dict[str, Any] = _closed(json.loads((pathlib.Path(__file__).parent / "rayservice_v1.json").read_text()))
    found["properties"]["metadata"] = {"type": "object"}
    return found


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _closed(value) for name, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    is_open = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made

"""Print the Serve config of a container: `serve_config.yaml`, open to others, with keys of callers and PostgreSQL.

    uv run python -m deployments.ops.cluster_config > deployments/ops/image/serve_config.yaml

That of KubeRay is made by it, too: deployments/ops/kuberay/rayservice.py.
"""

import pathlib
import sys
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[2]
HOME = "/opt/breakwater"  # of the image


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and what stands at two places twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(document: object) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def serve_config(*, small: bool = False) -> str:
    """Return the Serve config of a cluster: that of this project, open to the Service, with keys and PostgreSQL.

    `small`: one replica of each deployment, on one node.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"] = {"host": "0.0.0.0", "port": 8000}
    [application] = config["applications"]
    args = application["args"]
    args["auth"] = {"api_keys_env": "BREAKWATER_API_KEYS", "admin_key_env": "BREAKWATER_ADMIN_KEY"}
    args["ledger"] = {"url_env": "BREAKWATER_LEDGER_URL", "folder": f"{HOME}/state"}
    if small:
        return dump(config)
    # Three of each, on two nodes at least: one node's death must not take all of them. A redeploy starts one more at a
    # time, for which there is room beside them: two nodes take four. More replicas would leave no room, and a redeploy
    # would wait for ever: docs/kubernetes.md has the rule.
    spread = {"max_replicas_per_node": 2, "max_surge_percent": 34}
    scaling = {"min_replicas": 3, "max_replicas": 3}
    names = ["Ingress", *args["providers"]]
    application["deployments"] = [{"name": name, **spread, "autoscaling_config": scaling} for name in names]
    return dump(config)


HEADER = """\
# Made by: uv run python -m deployments.ops.cluster_config > deployments/ops/image/serve_config.yaml
"""


def main() -> int:
    sys.stdout.write(HEADER + serve_config(small=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())

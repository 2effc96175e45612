"""Play Serve's HAProxyManager, with Ray's own code and no cluster: start HAProxy, and replace it for each line read.

    python haproxy_manager.py FOLDER PORT REPLICA_HOST:PORT [REPLICA_HOST:PORT ...]

prints the pid of HAProxy each time. Its settings are those of the environment, as Serve's are.
"""

import asyncio
import pathlib
import sys

from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions


def api(folder: pathlib.Path, port: int, replicas: list[str]) -> HAProxyApi:
    places = [replica.rsplit(":", 1) for replica in replicas]
    servers = [ServerConfig(f"replica-{i}", host, int(port)) for i, (host, port) in enumerate(places)]
    backend = BackendConfig("llm", "/", app_name="llm", servers=servers, protocol=RequestProtocol.HTTP)
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        has_received_routes=True,
        has_received_servers=True,
    )
    return HAProxyApi(config, {"llm": backend}, str(folder / "haproxy.cfg"))


async def main(folder: str, port: str, *replicas: str) -> None:
    proxy = api(pathlib.Path(folder), int(port), list(replicas))
    await proxy.start()
    print(proxy._proc.pid, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        await proxy.reload()
        print(proxy._proc.pid, flush=True)
    await proxy.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

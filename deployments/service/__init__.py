"""What can be asked of the application, over HTTP or by handle? Health, usage and commands too.

Runs in: ingress replicas.
Imports: everything but `rpc.client`, `replica`, `status_page`, `ingress` and `app`.
"""

"""The service behind both APIs, HTTP and Python: requests, health, usage and commands.

Runs in: ingress replicas.
Imports: everything but `rpc.client`, `replica`, `console`, `ingress` and `app`.
"""

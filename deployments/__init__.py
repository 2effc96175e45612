"""The Serve deployments: an ingress, a replica for each provider, and the road between them.

Runs in: ingress and provider replicas.
Imports: `actors`; folders below import each other one way, as tests/unit/test_layers.py says.
"""

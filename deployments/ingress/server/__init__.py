"""The server of an ingress replica: what is put around Ray Serve's own, and the short way past it.

Runs in: ingress replicas.
Imports: `actors.process`, `body` and `errors`.
"""

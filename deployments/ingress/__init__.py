"""The ingress deployment: the HTTP API, and the Ray shell with the methods of the Python API.

Runs in: ingress replicas.
Imports: everything but `replica` and `app`.
"""

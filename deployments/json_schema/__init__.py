"""How does a JSON schema say the same to each vendor? Pure: it knows no request, no socket and no clock.

Runs in: ingress and provider replicas.
Imports: the standard library, and `orjson` for the key of its memory.
"""

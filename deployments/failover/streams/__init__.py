"""Streams under way: their frames, their limits, what is held back of them, and how they go on elsewhere.

Runs in: ingress replicas.
Imports: `actors`, `aio`, `errors`, `openai_api`, `providers` and `rpc.port`.
"""

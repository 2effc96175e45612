"""Vendors behind one port. Plain Python: no Ray, no breaker, no failover.

Runs in: provider replicas.
Imports: `actors.breaker.outcomes`, `errors`, `aio`, `json_schema`, `newest`, `openai_api`, `secrecy`.
"""

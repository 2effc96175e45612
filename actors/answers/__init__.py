"""Which request answers for an idempotency key, and who reads along?

Runs in: the answers actor.
Imports: nothing.
"""

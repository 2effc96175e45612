"""Which target has a conversation's prompt in its cache?

Runs in: ingress replicas.
Imports: `newest`.
"""

"""Which requests are one request that was sent twice, and how do they share one answer?

Runs in: ingress replicas.
Imports: `aio`, `config` and `errors`.
"""

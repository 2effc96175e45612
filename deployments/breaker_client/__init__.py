"""What does one ingress know of each target? The ingress's end of the breaker actor.

Runs in: ingress replicas.
Imports: `actors`, `aio`, `newest`.
"""

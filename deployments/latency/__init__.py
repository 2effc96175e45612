"""How long targets take to begin their answers: what is usual, who is slow, and how long a second leg waits.

Runs in: ingress replicas.
Imports: `newest`.
"""

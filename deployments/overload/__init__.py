"""How many calls may a target have at once, and who waits for it in which order?

Runs in: ingress replicas.
Imports: `errors`.
"""

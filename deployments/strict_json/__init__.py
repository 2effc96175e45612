"""What value is in the JSON of a stranger? Strict, bounded, and in slices where it is large. Pure: it knows no request.

Runs in: ingress replicas.
Imports: `long_text`.
"""

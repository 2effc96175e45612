"""A second leg beside a first one that says nothing for too long: when there is one, and who of them answers.

Runs in: ingress replicas.
Imports: `actors`, `latency` and `openai_api`.
"""

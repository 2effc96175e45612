"""The status page: what it shows, its feed, its routes.

Runs in: ingress replicas.
Imports: `actors`, `errors`, `openai_api`, `config`, `service`.
"""

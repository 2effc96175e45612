"""The operators' console: its page, its feed, its routes.

Runs in: ingress replicas.
Imports: `actors`, `errors`, `openai_api`, `config`, `service`, `usage`.
"""

"""Which targets does a request mean, and in which form can each of them take it?

Runs in: ingress replicas.
Imports: `actors`, `errors`, `aio`, `openai_api`, `config`.
"""

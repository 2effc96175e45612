"""What did a request use, and who pays for it?

Runs in: ingress replicas.
Imports: `actors`, `errors`, `openai_api`, `config`.
"""

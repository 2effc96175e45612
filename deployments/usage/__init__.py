"""What did a request use, and who pays for it?

Runs in: ingress replicas.
Imports: `actors`, `errors`, `newest`, `openai_api`, `config`.
"""

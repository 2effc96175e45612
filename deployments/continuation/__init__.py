"""How does an answer whose stream broke off go on at another provider, word for word?

Runs in: ingress replicas.
Imports: `openai_api`.
"""

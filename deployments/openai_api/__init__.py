"""What does OpenAI's format say? Pure.

Runs in: ingress and provider replicas.
Imports: `errors`.
"""

"""How is a chat completion's answer one of the Messages API, whole and streamed? Pure.

Runs in: ingress replicas.
Imports: `doors`, `openai_api`, `errors`.
"""

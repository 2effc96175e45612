"""How is a request of the Responses API one of a chat completion? Pure.

Runs in: ingress replicas.
Imports: `doors`, `openai_api`, `errors`, `validation`.
"""

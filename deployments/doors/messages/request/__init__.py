"""How is a request of the Messages API one of a chat completion? Pure.

Runs in: ingress replicas.
Imports: `doors`, the `answer` beside it, `openai_api`, `errors`, `validation`.
"""

"""How is a chat completion's answer one of the Responses API, whole and streamed? Pure.

Runs in: ingress replicas.
Imports: `doors`, its `request`, `openai_api`, `errors`.
"""

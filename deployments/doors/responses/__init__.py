"""What does OpenAI's Responses API say? Pure.

Runs in: ingress replicas.
Imports: `doors`, `openai_api`, `errors`, `validation`.
"""

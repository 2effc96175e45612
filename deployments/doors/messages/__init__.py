"""What does Anthropic's Messages API say? Pure.

Runs in: ingress replicas.
Imports: `doors`, `openai_api`, `errors`, `validation`.
"""

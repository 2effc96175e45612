"""What is recorded of a request: its record, metrics, a log line, spans.

Runs in: ingress replicas; spans in provider replicas too.
Imports: `actors`, `errors`, `openai_api`, `providers.timing`, `usage`.
"""

"""What is told of a request: its record, metrics, a line in the log, spans.

Runs in: ingress replicas; spans in provider replicas too.
Imports: `actors`, `errors`, `openai_api`, `providers.timing`, `usage`.
"""

"""What is recorded of a request: its record, metrics, a log line, spans.

Runs in: ingress replicas; spans and the age of credentials in provider replicas too.
Imports: `actors`, `errors`, `openai_api`, `providers.timing`, `providers.credentials`, `usage`.
"""

"""Which other APIs than chat completions do clients speak? A codec for each. Pure.

A request becomes a chat completion's request, and its answer becomes one of the API: so failover, limits and accounts
are the same for all. Each API has a folder.

Runs in: ingress replicas.
Imports: `openai_api`, `strict_json`, `errors`, `validation`.
"""

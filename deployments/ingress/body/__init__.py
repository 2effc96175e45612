"""The body of a request: how it is read, decoded, held within limits, and what happens to one that is not read.

Runs in: ingress replicas.
Imports: `aio`, `errors`, `openai_api` and `strict_json`.
"""

"""HTTP to providers: a thin client for what nearly every call is, aiohttp for the rest, and how long a call takes.

Runs in: provider replicas.
Imports: `errors`, `aio` and `openai_api`.
"""

"""Whole answers that are asked for as streams: which are, and how a stream's frames become the answer's body.

Runs in: provider replicas.
Imports: `errors`, `newest`, `openai_api` and `providers`.
"""

"""OpenAI, and every server that speaks its API.

Runs in: its provider replica.
Imports: as `providers`.
"""

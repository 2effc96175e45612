"""Anthropic's own API: Messages.

Runs in: its provider replica.
Imports: as `providers`.
"""

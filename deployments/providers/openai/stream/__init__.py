"""A stream of OpenAI's format that passes through: its frames, read by their structure, and most of them not at all.

Runs in: its provider replica.
Imports: as `providers`.
"""

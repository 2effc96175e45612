"""The local model: llama.cpp in its replica's own process.

Runs in: its provider replica.
Imports: as `providers`.
"""

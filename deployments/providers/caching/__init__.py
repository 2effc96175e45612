"""Marks of a prompt cache that we set ourselves.

Runs in: provider replicas.
Imports: as `providers`.
"""

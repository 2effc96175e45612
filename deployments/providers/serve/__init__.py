"""A deployment of the same Ray cluster, called by its Serve handle.

Runs in: its provider replica.
Imports: as `providers`, and Ray in `handle.py` alone.
"""

"""Credentials that expire, for all kinds: where they come from, and how they are renewed beside the traffic.

Runs in: each provider replica; what is found, in the check of a configuration too.
Imports: `errors`, `aio` and `secrecy`.
"""

"""Credentials that expire, for all kinds: who asks and where, and how tokens are renewed beside the traffic.

Runs in: each provider replica; what is found, in the check of a configuration too.
Imports: `errors`, `aio` and `secrecy`.
"""

"""The counts of calls under way, by the path under which Serve's request router looks for them. Pure.

Serve sends the router's class by value to replicas of another version, so this path is a word between two versions.
"""

from deployments.rpc.in_flight import IN_FLIGHT as LOADS

__all__ = ["LOADS"]

"""What do operators need: HAProxy's start, alerts, the Grafana dashboard, commands?

Runs in: nothing of the server.
Imports: `keys` and `errors`.
"""

"""What do operators need: the HAProxy wrapper, alerts, the Grafana dashboard, commands?

Runs in: nothing of the server.
Imports: `keys` and `errors`.
"""

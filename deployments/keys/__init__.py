"""Who holds which API key, until when, and for what; and what a wrong key costs.

Runs in: ingress replicas, and wherever a configuration is checked.
Imports: `errors`, `validation`.
"""

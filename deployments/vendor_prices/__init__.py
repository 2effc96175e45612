"""What do the vendors ask for their models, where the configuration has no price of its own?

Runs in: ingress replicas, and what checks a configuration.
Imports: nothing of ours.
"""

"""Named, detached Ray actors, and the pure code that they share with the deployments.

Runs in: the actors, and every process that talks to them.
Imports: nothing of `deployments`.
"""

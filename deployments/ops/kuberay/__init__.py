"""Breakwater on Kubernetes by KubeRay: manifests, and what makes the one that repeats this project's own settings.

Runs in: a command by itself.
Imports: `config` and `ops.cluster_config`.
"""

"""What can agents call by Python handle? The same requests as over HTTP, a prompt, functions of their own. No Ray.

Runs in: ingress replicas.
Imports: `service` and what it imports.
"""

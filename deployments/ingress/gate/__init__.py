"""What holds for each HTTP request before a handler gets it: its headers, its origin, its caller and its route.

Runs in: ingress replicas.
Imports: `config`, `errors`, `keys` and `service.auth`.
"""

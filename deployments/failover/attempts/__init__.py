"""What one attempt needs: its share of the time, its message, the call itself, and how its failure is judged.

Runs in: ingress replicas.
Imports: `actors`, `aio`, `errors`, `openai_api`, `providers` and `routing`.
"""

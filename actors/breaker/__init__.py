"""Who is healthy, and in which order to ask?

Runs in: the breaker actor; the circuit and the plan in each ingress replica too.
Imports: `actors` alone.
"""

"""Who is healthy, and in which order to ask?

Runs in: the breaker actor; the circuit, the plan and the places in each ingress replica too.
Imports: `actors` alone.
"""

"""What a console and a caller may ask of the ledger.

Runs in: the ledger actor; asked.py in each ingress replica too.
Imports: `actors` alone.
"""

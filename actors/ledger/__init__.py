"""Who used what?

Runs in: the ledger actor; rows, budgets and the journal in each ingress replica too.
Imports: `actors` alone.
"""

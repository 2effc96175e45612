"""Who writes to the store, and how much may each replica use before it is asked again?

Starts at writer.py; reading.py is what the lines of a journal say, leases.py what replicas hold of a limit.

Runs in: the ledger actor.
Imports: the files beside this folder, and the journal.
"""

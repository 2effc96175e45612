"""Which rows are not in the store yet?

Starts at journal.py, what a writer has; lines.py is the frame of a line, orphans.py what dead writers have left.

Runs in: each ingress replica, and in the ledger actor for the dead ones of its machine.
Imports: nothing of ours.
"""

"""What do operators do with the ledger's store: export, back up, restore?

Runs in: `python -m deployments.ops.ledger`.
Imports: `actors`, `config`, `errors`.
"""

"""`python -m deployments.ops.ledger export|backup|restore`: the ledger's store, with the server running."""

import sys

from deployments.ops.ledger.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m deployments.config serve_config.yaml`: check a Serve config file without starting anything."""

import sys

from deployments.config.check import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

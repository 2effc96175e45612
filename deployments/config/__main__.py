"""Check a Serve config file without starting anything, from the folder of Breakwater or from any other.

python -m deployments.config serve_config.yaml
python /path/to/breakwater/deployments/config serve_config.yaml
"""

import pathlib
import sys

if not __package__:  # by its path: then Python looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

from deployments.config.check import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

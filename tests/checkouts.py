"""Other versions of Breakwater, taken from git's history, for tests in which two of them meet."""

import pathlib
import subprocess
import tarfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Before leases of limits, the rollup of days, checksums in journals, and long calls in parts.
EARLIER = "0ca93ab"
# The version before this one: without signs of life between replicas, and with a ledger of one cluster.
LAST = "bd9202c"


def checkout(revision: str, folder: pathlib.Path) -> pathlib.Path:
    """What serves in that revision, in a folder of its own."""
    made = folder / revision
    made.mkdir()
    git = ["git", "-C", str(ROOT), "archive", revision, "actors", "deployments"]
    with (made / "archive.tar").open("w+b") as archive:
        if subprocess.run(git, stdout=archive, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            pytest.skip(f"the history of this checkout does not have {revision}")
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(made, filter="data")
    return made

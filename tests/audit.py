"""Looks up known vulnerabilities of all that is installed with Breakwater, at PyPI's advisory service.

    uv run python -m tests.audit

Ends with 1 if there are some, and with 2 if they could not be looked up: that is no pass. It needs PyPI itself, as a
mirror of packages alone knows no advisories.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

PIP_AUDIT = "pip-audit==2.10.1"
EXPORT = ["uv", "export", "--quiet", "--no-dev", "--no-hashes", "--no-emit-project", "--output-file"]
AUDIT = ["uv", "tool", "run", PIP_AUDIT, "--no-deps", "--disable-pip", "--format", "json", "--requirement"]


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code, and what to say of pip-audit's report."""
    packages = report["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'none'}"
        for package in packages
        for vuln in package.get("vulns", ())
    ]
    checked = len(packages) - len(unknown)
    if found:
        return 1, "\n".join([f"{len(found)} known vulnerabilities:", *found])
    if not checked:
        return 2, f"not checked: the advisory service knows none of the {len(packages)} packages"
    missing = f"; not checked: {', '.join(unknown)}" if unknown else ""
    return (2 if unknown else 0), f"no known vulnerability in {checked} of {len(packages)} packages{missing}"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        requirements = str(pathlib.Path(folder) / "requirements.txt")
        subprocess.run([*EXPORT, requirements], check=True)
        done = subprocess.run([*AUDIT, requirements], capture_output=True, text=True, check=False)
    try:
        code, said = verdict(json.loads(done.stdout))
    except ValueError:
        code, said = 2, f"not checked: {done.stderr.strip()[-300:]}"
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())

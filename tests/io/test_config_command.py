"""The check of a config file as a command."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_a_config_is_checked_from_any_folder(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, str(ROOT / "deployments" / "config"), str(ROOT / "serve_config.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "default: local/smollm2-135m" in done.stdout

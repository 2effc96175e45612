"""What `serve run` and `serve deploy` refuse, as processes with serve.env: one sentence, and nothing is started."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.checkouts import ROOT

SHIPPED = (ROOT / "serve_config.yaml").read_text()
OF_SERVE = "proxy_location: Moon\napplications: [{name: agents, import_path: 'agents:app'}]"


def environment() -> dict[str, str]:
    lines = [line for line in (ROOT / "serve.env").read_text().splitlines() if line and not line.startswith("#")]
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **dict(line.split("=", 1) for line in lines)}


@pytest.mark.parametrize(
    ("verb", "text", "sentence"),
    [
        ("run", "applications:\n  - name: llm\n    args: {", ", line 3, column 12: not YAML: "),
        ("run", None, ": No such file or directory"),
        ("run", SHIPPED.replace("idle: 15", "idel: 15"), ": timeouts.idel: unknown key, did you mean idle?"),
        ("deploy", SHIPPED.replace("idle: 15", "idel: 15"), ": timeouts.idel: unknown key, did you mean idle?"),
        ("deploy", OF_SERVE, ": proxy_location: input should be 'Disabled', 'HeadOnly' or 'EveryNode'"),
    ],
)
def test_a_wrong_config_is_one_sentence_before_anything_starts(
    tmp_path: pathlib.Path, verb: str, text: str | None, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    command = [sys.executable, "-m", "ray.serve.scripts", verb, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "scripts.py" not in line]
    assert len(said) == 1, done.stderr
    assert said[0].startswith(f"{file}{sentence}")

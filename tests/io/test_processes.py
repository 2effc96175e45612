"""What only a process of its own can show."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_the_command_exits_with_one_and_its_sentence(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "deployments.config", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().endswith("No such file or directory")


def test_without_an_endpoint_the_exporter_is_not_even_imported() -> None:
    code = (
        "import sys, deployments.replica, deployments.service.service, deployments.ingress.http\n"
        "from deployments.telemetry.otlp import tracer_for\n"
        "assert tracer_for('Ingress') is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')], 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, timeout=60)


def test_an_ingress_does_not_import_what_the_ledger_actor_alone_needs() -> None:
    code = (
        "import sys, deployments.app\n"
        "assert not [name for name in sys.modules if name.startswith(('sqlalchemy', 'psycopg'))], 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, timeout=60)

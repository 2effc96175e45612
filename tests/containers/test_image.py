"""The image and compose.yaml. `uv run pytest -m image` builds it, from a base that debootstrap makes, and runs it.

The schema of compose files is `schema/compose-spec.json` of compose-spec (Apache-2.0) at 170098ba07d9, without its
descriptions.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import jsonschema
import pytest
import xllamacpp
import yaml

from deployments.config.application import parse
from deployments.config.check import read_applications
from deployments.ops import cluster_config
from tests.containers.manifests import ROOT, command

FOLDER = ROOT / "deployments" / "ops" / "image"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([command("hadolint"), str(FOLDER / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_hadolint_would_find_something(tmp_path: pathlib.Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("# hadolint ignore=DL3008\n", ""))
    done = subprocess.run([command("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, text=True)
    assert "DL3008" in done.stdout


def test_the_config_in_the_image_is_made_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster_config.main() == 0
    assert capsys.readouterr().out == (FOLDER / "serve_config.yaml").read_text()


def test_the_config_in_the_image_is_one_that_serve_run_takes() -> None:
    [ours] = read_applications(str(FOLDER / "serve_config.yaml"))
    auth = parse(ours["args"]).auth
    assert (auth.api_keys_env, auth.admin_key_env) == ("BREAKWATER_API_KEYS", "BREAKWATER_ADMIN_KEY")


def test_the_image_holds_what_it_copies_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_it_runs_as_a_user_that_may_write_its_state_alone() -> None:
    final = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["1000"]
    assert "COPY --from=build /opt/breakwater /opt/breakwater" in final  # as root's own
    assert "HEALTHCHECK" in final
    assert "ENTRYPOINT" not in re.sub(r"^#.*$", "", final, flags=re.MULTILINE)  # KubeRay has a command of its own
    assert not re.search(r"gcc|build-essential|pip install|uv ", final)


def test_what_the_local_model_is_linked_with_is_in_the_image() -> None:
    """The base has what Debian's own `apt` needs, and nothing more."""
    base = r"linux-vdso|ld-linux|libc\.so|libm\.so|libdl|librt|libpthread|libgcc_s|libstdc\+\+"
    library = next(pathlib.Path(next(iter(xllamacpp.__path__))).glob("*.so"))
    linked = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True).stdout.split("\n\t")
    others = {line.split()[0] for line in linked if not re.search(base, line) and "site-packages" not in line}
    assert others == {"libgomp.so.1"}
    assert "libgomp1" in DOCKERFILE.rsplit("\nFROM ", 1)[1]


def test_compose_is_a_compose_file() -> None:
    schema = json.loads((pathlib.Path(__file__).parent / "compose_spec.json").read_text())
    compose = jsonschema.Draft7Validator(schema)
    compose.validate(COMPOSE)
    wrong = {**COMPOSE, "services": {"breakwater": {"imagee": "breakwater"}}}
    with pytest.raises(jsonschema.ValidationError, match="imagee"):
        compose.validate(wrong)


def test_compose_names_files_that_exist_and_no_secret() -> None:
    for service in COMPOSE["services"].values():
        mounted = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert all((FOLDER / name).exists() for name in mounted if name.startswith("."))
        assert all(name in COMPOSE["volumes"] for name in mounted if not name.startswith("."))
        for name, value in service.get("environment", {}).items():
            assert "${" in value or not re.search("KEY|PASSWORD|URL", name), name
    assert (FOLDER / COMPOSE["services"]["breakwater"]["build"]["context"]).resolve() == ROOT
    needed = set(re.findall(r"_env: (\w+)", (FOLDER / "serve_config.yaml").read_text()))
    assert needed <= COMPOSE["services"]["breakwater"]["environment"].keys()


def buildah(store: pathlib.Path, *arguments: str, seconds: float = 900) -> str:
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    place = ["--root", str(store / "store"), "--runroot", str(store / "run")]
    done = subprocess.run(["buildah", *place, *arguments], capture_output=True, text=True, env=env, timeout=seconds)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@contextlib.contextmanager
def running(store: pathlib.Path, image: str) -> Iterator[None]:
    """The image as `docker run` would start it, in this machine's own network."""
    # As Docker's own limit of open files is: buildah's is too low for HAProxy, as `serve run` would say.
    container = buildah(store, "from", "--ulimit", "nofile=20000:20000", "--pull-never", image).strip()
    settings = {
        "BREAKWATER_API_KEYS": "key-of-alice:acme:alice",
        "BREAKWATER_ADMIN_KEY": "key-of-the-operators",
        "BREAKWATER_LEDGER_URL": "postgresql://breakwater@127.0.0.1:1/breakwater",  # away: answers come all the same
        "HOME": "/home/ray",
        "RAY_AUTH_TOKEN": "0" * 64,
    }
    env = [f"--env={name}={value}" for name, value in settings.items()]
    place = ["--root", str(store / "store"), "--runroot", str(store / "run")]
    arguments = ["run", "--user=1000", *env, container, "--", "deployments/ops/image/start.sh"]
    isolated = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    with (store / "serve.log").open("w") as log:
        process = subprocess.Popen(["buildah", *place, *arguments], stdout=log, stderr=log, env=isolated)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.image
@pytest.mark.skipif(not (shutil.which("buildah") and shutil.which("debootstrap")), reason="needs buildah, debootstrap")
def test_the_image_is_built_and_answers(tmp_path: pathlib.Path) -> None:
    """`apt-get install buildah debootstrap crun`; as root. It uses port 8000 of this machine."""
    root = tmp_path / "root"
    suites = set(re.findall(r"debian:(\w+)-slim", DOCKERFILE))
    subprocess.run(["debootstrap", "--variant=minbase", *suites, str(root)], check=True, capture_output=True)
    subprocess.run(["tar", "-C", str(root), "-cf", str(tmp_path / "root.tar"), "."], check=True)
    shutil.rmtree(root)
    shutil.copy(CERTIFICATES, tmp_path / "ca.crt")  # whom this machine trusts, its proxy included
    trusted = "ENV SSL_CERT_FILE=/ca.crt PIP_CERT=/ca.crt"
    (tmp_path / "Containerfile").write_text(f"FROM scratch\nADD root.tar /\nCOPY ca.crt /\n{trusted}\n")
    buildah(tmp_path, "bud", "-t", "localhost/base:1", "-f", str(tmp_path / "Containerfile"), str(tmp_path))
    base = ["--pull-never", "--layers=false", "--build-arg", "BASE=localhost/base:1"]
    buildah(tmp_path, "bud", *base, "-t", "breakwater", "-f", str(FOLDER / "Dockerfile"), str(ROOT))
    with running(tmp_path, "localhost/breakwater"):
        assert "smollm2" in _answer(time.monotonic() + 300)


def _answer(until: float) -> str:
    """Return who answers a chat, once anybody does."""
    body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    request.add_header("authorization", "Bearer key-of-alice")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return str(reply.headers["x-breakwater-provider"]) + str(reply.headers["x-breakwater-model"])
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if time.monotonic() > until:
                raise
            time.sleep(2)

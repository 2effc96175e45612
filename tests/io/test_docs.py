"""The README and the pages of docs/ say what is there: commands, links, files, markers, configs."""

import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
import types
from typing import Any

import pytest
import yaml
from ray import serve

from deployments.config.application import parse
from deployments.config.ledger import LedgerSettings
from deployments.ops.clean import places
from tests.clients.coding_agents import CODEX_CONFIG
from tests.fakes.serve_llm import LLMServer
from tests.readme import PAGES, PYTHONS, README, ROOT, blocks, commands, section
from tests.unit.test_layers import MAY_IMPORT_RAY

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MARKERS = {line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
MOST_BYTES = 9 * 1024
SERVE_CONFIG = "serve_config.yaml"


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: str) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page)))


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as both MkDocs and GitHub make them of simple words."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def simple_commands(line: str) -> list[list[str]]:
    """Return the words of each command of a line that `&&` joins."""
    return [shlex.split(part) for part in line.split("&&")]


EVERY_COMMAND = sorted(
    {
        (page, " ".join(words))
        for page in PAGES
        for line in (*commands(page), *(span for span in code_spans(page) if span.startswith("uv run ")))
        for words in simple_commands(line)
    }
)


def test_the_readme_stays_short() -> None:
    assert len((ROOT / README).read_bytes()) <= MOST_BYTES


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_something(page: str) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        if not re.match(r"https?:", link):
            target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
            assert target.exists(), link
            if anchor:
                assert anchor in anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_no_page_shows_a_picture_of_another_host(page: str) -> None:
    assert not re.findall(r"!\[[^\]]*\]\(\s*(?:https?:)?//|<(?:img|script|iframe|link)\b", prose(page))


def test_the_site_has_every_page_and_loads_nothing_from_another_host() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    site: dict[str, Any] = yaml.safe_load(text)
    assert {f"docs/{page}" for page in re.findall(r"[\w-]+\.md$", text, re.MULTILINE)} == set(PAGES) - {README}
    assert site["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css", "repo_url"} & site.keys()
    assert "//" not in text


@pytest.mark.parametrize("page", [page for page in PAGES if page not in (README, "docs/index.md")])
def test_the_readme_and_the_start_page_lead_to_every_page(page: str) -> None:
    assert page in links(README)
    assert page.removeprefix("docs/") in links("docs/index.md")


@pytest.mark.parametrize(("page", "line"), EVERY_COMMAND, ids=lambda text: text)
def test_every_command_can_be_run(page: str, line: str) -> None:
    match line.split():
        case ["pip", "install", "uv"] | ["curl", *_]:
            pass  # run by tests/first_run.py and tests/cluster/test_readme.py
        case ["export", first, *_] if first.startswith("BREAKWATER_ADMIN_KEY"):
            shell = f'{line}; [ "${{#BREAKWATER_ADMIN_KEY}}" -ge 32 ]'
            subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
        case ["sudo", "install", "-D", "-m", "644", source, _] | ["grep", "-l", source, _]:
            assert (ROOT / source).exists() or source.startswith(":actor_name:")
        case ["sudo", "systemctl", *_] | ["promtool", "check", "config", _]:
            pass  # run by tests/observability/test_installed.py
        case ["export", "ANTHROPIC_BASE_URL=http://127.0.0.1:8000", "ANTHROPIC_API_KEY=any"] | ["claude"]:
            assert page == "docs/clients.md"  # run by tests/clients/test_agents.py
        case ["export", "BREAKWATER_KEY=any"] | ["codex", "--model", "gpt-5.5"]:
            assert page == "docs/clients.md"  # run by tests/clients/test_agents.py
        case [".", script]:
            assert (ROOT / script).exists()
        case [("ray" | "serve" | "chmod"), *_]:
            assert page == "docs/operations.md"  # run by tests/cluster/test_on_a_cluster.py
        case ["uv", "run", *words]:
            check_uv_run(words)
        case ["uv", "export", *words, "--output-file", _]:
            made = subprocess.run(["uv", "export", "--quiet", *words], cwd=ROOT, capture_output=True, check=True)
            assert len(json.loads(made.stdout)["components"]) > 50
        case _:
            pytest.fail(f"a command that no test knows: {line}")


def check_uv_run(words: list[str]) -> None:
    """Check a command behind `uv run`: its options, its program, and the files and modules that it names."""
    while words[0].startswith("--"):
        option, value, *words = words
        assert option in ("--env-file", "--group")
        assert (ROOT / value).exists() if option == "--env-file" else value in PROJECT["dependency-groups"]
    match words:
        case ["python", "-m", module, *arguments]:
            check_module(module, arguments)
        case ["pytest", *arguments]:
            check_pytest(arguments)
        case ["serve", "run" | "deploy", file]:
            assert (ROOT / file).exists()
        case ["ray", "start", "--head", *_]:
            pass  # run by tests/observability/test_installed.py
        case ["serve", "status"]:
            pass  # run by tests/first_run.py
        case [("ruff" | "mypy" | "mkdocs") as program, *_]:
            groups = PROJECT["dependency-groups"].values()
            assert any(name.startswith(program) for group in groups for name in group)
        case _:
            pytest.fail(f"a program that no test knows: {words}")


def check_module(module: str, arguments: list[str]) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None
    folder = pathlib.Path(spec.origin).parent
    source = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    for argument in arguments:
        if argument.startswith("--"):
            assert f'"{argument}"' in source, argument
        elif argument.endswith(".yaml"):
            assert (ROOT / argument).exists()


def check_pytest(arguments: list[str]) -> None:
    while arguments:
        match arguments:
            case ["-m", marker, *arguments]:
                assert marker in MARKERS
            case ["-s", *arguments]:
                pass
            case [path, *arguments]:
                assert (ROOT / path).exists()


def test_every_marker_is_explained_and_left_out_by_default() -> None:
    said = re.findall(r"^\| `uv run pytest -m (\w+)", section("docs/contributing.md", "## Longer runs"), re.MULTILINE)
    assert sorted(said) == sorted(MARKERS - {"postgres"})  # which is skipped instead where it can't run
    [left_out] = re.findall(r"-m 'not \((.*)\)'", PROJECT["tool"]["pytest"]["ini_options"]["addopts"])
    assert set(left_out.split(" or ")) == set(said)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    for span in code_spans(page):
        if re.fullmatch(r"(?:(?:actors|deployments|tests)/[\w/.]+|\w+\.(?:py|env|yaml|toml))", span):
            found = (ROOT / span, ROOT / "deployments" / span)  # client.py is named without its folder too
            assert any(path.exists() for path in found), span


def checked(folder: pathlib.Path, config: Any) -> str:
    """Return what the check of a configuration prints. It must pass."""
    (folder / SERVE_CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    check = [sys.executable, "-m", "deployments.config", str(folder / SERVE_CONFIG)]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_config_passes_the_check_and_has_fifteen_lines(tmp_path: pathlib.Path) -> None:
    [block] = blocks("yaml", README)
    assert len(block.splitlines()) <= 15
    assert "2. local (local): ready" in checked(tmp_path, yaml.safe_load(block))


def test_serves_options_pass_the_check_beside_our_own_config(tmp_path: pathlib.Path) -> None:
    places, prices, *others, options = map(yaml.safe_load, blocks("yaml", "docs/configuration.md"))
    assert all(parse(other) for other in (places, *others))
    config = yaml.safe_load((ROOT / SERVE_CONFIG).read_text())
    config["applications"][0]["deployments"] = options["deployments"]
    config["applications"][0]["args"] |= prices
    assert "5. local (local): ready" in checked(tmp_path, config)


def test_the_check_says_of_two_keys_and_two_regions_what_the_page_says(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_SPARE_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"value-of-{name}")
    for name in ("AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    places, *_ = map(yaml.safe_load, blocks("yaml", "docs/configuration.md"))
    config = yaml.safe_load((ROOT / SERVE_CONFIG).read_text())
    config["applications"][0] |= {"args": places, "deployments": []}
    [said] = blocks("text", "docs/configuration.md")
    assert said in checked(tmp_path, config)


def test_the_local_models_config_passes_the_check_where_its_file_is(tmp_path: pathlib.Path) -> None:
    [block] = blocks("yaml", "docs/local-model.md")
    args = yaml.safe_load(block)
    gguf = tmp_path / pathlib.Path(args["providers"]["local"]["model_path"]).name
    gguf.touch()
    args["providers"]["local"]["model_path"] = str(gguf)
    config = yaml.safe_load((ROOT / SERVE_CONFIG).read_text())
    config["applications"][0]["args"] = args
    config["applications"][0]["deployments"] = []
    assert "2. local (local): ready" in checked(tmp_path, config)


def test_the_gpu_tiers_config_passes_the_check_and_its_applications_has_its_name(tmp_path: pathlib.Path) -> None:
    args, theirs = map(yaml.safe_load, blocks("yaml", "docs/gpu-tier.md"))
    config = yaml.safe_load((ROOT / SERVE_CONFIG).read_text())
    config["applications"][0] |= {"args": args, "deployments": []}
    assert "2. gpu (serve): ready" in checked(tmp_path, config)
    [application] = theirs["applications"]
    assert application["name"] == args["providers"]["gpu"]["app"]
    assert application["args"]["model_loading_config"]["model_id"] == args["models"]["default"]["gpu"]


def test_the_gpu_tiers_application_is_built_of_the_adapter_and_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for `ray.serve.llm`, which can't be imported without an engine."""
    module = types.ModuleType("ray.serve.llm")
    module.LLMConfig = dict  # type: ignore[attr-defined]
    module.build_llm_deployment = lambda config: serve.deployment(LLMServer).bind()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.serve.llm", module)
    monkeypatch.syspath_prepend(ROOT / "deployments" / "ops")
    space: dict[str, Any] = {"__name__": "gpu_app"}
    exec(blocks("python", "docs/gpu-tier.md")[1], space)
    theirs = yaml.safe_load(blocks("yaml", "docs/gpu-tier.md")[1])
    made = space["build_app"](theirs["applications"][0]["args"])
    assert (made._bound_deployment.name, made._bound_deployment.init_args[0]._bound_deployment.name) == (
        "Adapter",
        "LLMServer",
    )


def test_the_shipped_config_has_the_line_that_opens_the_operators_routes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / SERVE_CONFIG).read_text()
    config = yaml.safe_load(text.replace("      # auth:", "      auth:"))
    assert config["applications"][0]["args"]["auth"] == {"admin_key_env": "BREAKWATER_ADMIN_KEY"}
    monkeypatch.setenv("BREAKWATER_ADMIN_KEY", "0" * 64)
    assert "5. local (local): ready" in checked(tmp_path, config)
    assert any(line.startswith("export BREAKWATER_ADMIN_KEY=") for line in commands("docs/operations.md"))


def test_the_page_says_where_the_ledger_and_old_sessions_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"):
        monkeypatch.delenv(name, raising=False)
    table = section("docs/operations.md", "## What is on disk")
    where = places(None)
    for folder in (LedgerSettings().folder, f"{where.sessions}/session_*", f"{where.haproxy}/*"):
        assert f"| `{folder}`" in table


@pytest.mark.parametrize(("page", "heading"), [(README, "## The folders"), ("docs/design.md", "## The parts")])
def test_every_folder_has_its_line(page: str, heading: str) -> None:
    said = re.findall(r"^\| `((?:actors|deployments)/\w+)` \|", section(page, heading), re.MULTILINE)
    folders = [path for top in ("actors", "deployments") for path in (ROOT / top).iterdir() if path.is_dir()]
    there = {str(path.relative_to(ROOT)) for path in folders if path.name != "__pycache__"}
    assert sorted(said) == sorted(there)


def test_the_design_names_all_that_may_import_ray() -> None:
    said = set(re.findall(r"`((?:actors|deployments)/[\w/]+\.py)`", section("docs/design.md", "## The parts")))
    assert said >= MAY_IMPORT_RAY


def without_names(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_every_route_is_in_the_table_of_routes() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "deployments").rglob("*.py"))
    routes = re.findall(r'Route\("(?:GET|POST|PATCH)", "(/[^"]+)", [^)]+, \w+\.\w+\)', source)
    assert len(routes) > 10
    table = section("docs/http-api.md", "## Routes")
    said = {without_names(path) for path in re.findall(r"/[\w/]+(?:\{[^}]*\}|[\w/])*", table)}
    assert {path for path in routes if without_names(path) not in said} == set()


def test_prometheus_is_given_the_alerts_that_are_there() -> None:
    lines = [line.split() for line in commands("docs/monitoring.md") if line.startswith("sudo install ")]
    put = {target: ROOT / source for *_, source, target in lines}
    config = yaml.safe_load(put["/etc/prometheus/prometheus.yml"].read_text())
    [alerts] = config["rule_files"]
    assert "groups" in yaml.safe_load(put[alerts].read_text())


def test_the_page_has_the_sizes_of_logs_that_serve_env_sets() -> None:
    lines = (ROOT / "serve.env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    size, count = int(env["RAY_ROTATION_MAX_BYTES"]) // 2**20, int(env["RAY_ROTATION_BACKUP_COUNT"])
    said = " ".join(section("docs/monitoring.md", "## The logs").split())
    assert f"sets {size} MB and {count}, so a process has at most {size * (count + 1)} MB" in said


def test_the_readmes_figures_of_speed_are_those_of_the_page() -> None:
    rows = [line for line in section(README, "## How fast it is").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert "\n".join(rows) in section("docs/performance.md", "## Results")


def test_the_pages_name_the_pythons_for_which_it_is() -> None:
    said = f"Python 3.{PYTHONS[0]} to 3.{PYTHONS[-1]}"
    for page in ("README.md", "docs/index.md", ".ci/run"):
        assert said in (ROOT / page).read_text(), page


def test_eight_rows_say_what_happens_when() -> None:
    rows = [line for line in section(README, "## What happens when ...").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 8


@pytest.mark.site
def test_the_site_is_built_and_loads_nothing_from_another_host(tmp_path: pathlib.Path) -> None:
    build = [
        "uv",
        "run",
        "--isolated",
        "--only-group",
        "docs",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(tmp_path),
    ]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text() for page in tmp_path.glob("*.html")}
    assert {page.removeprefix("docs/").replace(".md", ".html") for page in PAGES if page != README} <= pages.keys()
    loaded = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=[\"']?(?:https?:)?//|<link[^>]*\bhref=[\"']?(?:https?:)?//")
    assert not [name for name, text in pages.items() if loaded.search(text)]


def test_codex_is_told_as_its_test_sets_it_up() -> None:
    assert CODEX_CONFIG.format(url="http://127.0.0.1:8000") in (ROOT / "docs/clients.md").read_text()


def test_each_alert_leads_to_what_is_to_be_done() -> None:
    data = yaml.safe_load((ROOT / "deployments" / "ops" / "alerts.yml").read_text())
    alerts = {rule["alert"]: rule["annotations"] for rule in data["groups"][0]["rules"] if "alert" in rule}
    page = "docs/operations.md"
    described = re.findall(r"^### (Breakwater\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert sorted(described) == sorted(alerts)
    for name, annotations in alerts.items():
        assert annotations["runbook"] == f"{page}#{name.lower()}"
        assert name.lower() in anchors(page)

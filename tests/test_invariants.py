"""The invariants of ARCHITECTURE.md that can be checked in the source tree."""

import importlib.util
import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# Crates for sockets, HTTP or protobuf, which the pipeline and the model must not depend on.
SOCKET_CRATES = {"tokio", "hyper", "hyper-util", "tonic", "prost", "mio", "socket2", "opentelemetry-proto"}


@cache
def crates() -> dict[str, dict]:
    text = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return {package["name"]: package for package in json.loads(text)["packages"]}


def needs(name: str) -> set[str]:
    """Returns the dependencies of a crate, without dev-dependencies."""
    return {d["name"] for d in crates()[name]["dependencies"] if d["kind"] is None}


def ours(name: str) -> set[str]:
    return {d for d in needs(name) if d in crates()}


def test_the_model_depends_on_no_workspace_crate():
    assert ours("dichroic-model") == set()


def test_the_pipeline_depends_on_the_model_only_and_on_no_socket_or_protobuf_crate():
    assert ours("dichroic-pipeline") == {"dichroic-model"}
    assert needs("dichroic-pipeline") & SOCKET_CRATES == set()


def test_the_wire_crate_does_no_io():
    assert needs("dichroic-wire") & SOCKET_CRATES == set()


@pytest.mark.parametrize("kind", ["receiver", "exporter"])
def test_receivers_and_exporters_never_import_one_another(kind):
    for name in crates():
        if f"-{kind}-" in name:
            others = {d for d in ours(name) if "-receiver-" in d or "-exporter-" in d}
            assert others == set(), f"{name} imports {others}"


def test_only_the_daemon_depends_on_receivers_and_exporters():
    for name in crates():
        # The fuzz targets call every decoder, and are in no binary that is released.
        if name not in ("dichroic", "dichroic-fuzz-harness") and "-receiver-" not in name and "-exporter-" not in name:
            assert not {d for d in ours(name) if "-receiver-" in d or "-exporter-" in d}, name


def rust_sources() -> list[Path]:
    return [
        path
        for folder in ("collector", "exporters", "fuzz")
        for path in (ROOT / folder).rglob("*.rs")
        if "target" not in path.parts
    ]


def test_no_log_field_has_the_name_of_a_json_key():
    """The JSON log has these keys at the top level, beside the fields."""
    macro = re.compile(r"(?:tracing::)?\b(?:trace|debug|info|warn|error)!\((.*?)\);?$", re.MULTILINE | re.DOTALL)
    field = re.compile(r"(?:^|[,(\s])(?:message|target|level|timestamp)\s*=(?!=)")
    found = [f"{path}: {text}" for path in rust_sources() for text in macro.findall(path.read_text()) if field.search(text)]
    assert found == []


@cache
def import_cycles():
    spec = importlib.util.spec_from_file_location("import_cycles", ROOT / "scripts" / "import_cycles.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(crates()))
def test_files_of_a_crate_import_one_another_in_one_direction(name):
    script = import_cycles()
    cycles = script.cycles(script.imports(Path(crates()[name]["manifest_path"]).parent))
    named = [" <-> ".join(script.name(module) for module in cycle) for cycle in cycles]
    assert not cycles, f"{name}: import cycles: {'; '.join(named)}"


def test_an_import_cycle_is_found(tmp_path):
    source = tmp_path / "src"
    (source / "b").mkdir(parents=True)
    (source / "lib.rs").write_text("mod a;\nmod b;\npub use a::A;\n")
    (source / "a.rs").write_text("use crate::b::c::{C, D};\npub struct A;\n")
    (source / "b" / "mod.rs").write_text("pub mod c;\n")
    (source / "b" / "c.rs").write_text("// use crate::nothing;\nfn c() { super::super::a::f(); }\n")
    script = import_cycles()
    assert script.cycles(script.imports(tmp_path)) == [[("a",), ("b", "c")]]
    (source / "b" / "c.rs").write_text("#[cfg(test)]\nmod tests { use crate::a::A; }\n")
    assert script.cycles(script.imports(tmp_path)) == []


def test_only_the_daemon_exits_the_process():
    for path in rust_sources():
        if "collector/daemon" not in path.as_posix() and "/benches/" not in path.as_posix():
            assert "process::exit" not in path.read_text(), path


# Where tasks are started without a name and a rule, and why.
UNSUPERVISED = {
    "collector/daemon/src/admin/client.rs": "commands, which end with their connection",
    "collector/receivers/otlp/src/server/offload.rs": "bounded work whose caller awaits it and continues its panic",
}


def test_every_task_is_started_with_a_name_and_a_rule():
    spawn = re.compile(r"\b(?:spawn|spawn_local|spawn_blocking|spawn_on|spawn_local_on)\(|thread::(?:Builder|scope)\b")
    found = set()
    for path in rust_sources():
        name = path.relative_to(ROOT).as_posix()
        if "/src/" in name and not name.startswith("collector/tasks/") and not name.endswith("tests.rs"):
            text = import_cycles().code_of(path.read_text())
            text = re.sub(r"ingest_thread::spawn\(|pub fn spawn\(", "", text)
            if spawn.search(text):
                found.add(name)
    assert found == set(UNSUPERVISED)


def test_a_signal_to_stop_is_awaited_without_its_guard():
    found = [path for path in rust_sources() if "wait_for(|stop" in path.read_text()]
    assert [path.name for path in found] == ["stop.rs"], "use dichroic_tasks::stopped: a guard that is held blocks the sender"


def test_unsafe_is_only_in_the_pipeline_and_each_block_has_a_safety_comment():
    unsafe = re.compile(r"^[^/\n]*\bunsafe\s*(\{|fn|impl|trait)", re.MULTILINE)
    for path in rust_sources():
        text = path.read_text()
        if "collector/pipeline" in path.as_posix():
            for match in unsafe.finditer(text):
                before = text[: match.start()].rstrip().splitlines()
                assert before and "SAFETY" in "\n".join(before[-4:]), f"{path}: unsafe without // SAFETY:"
        else:
            assert not unsafe.search(text), f"{path}: unsafe outside the pipeline"


def test_every_crate_but_the_pipeline_forbids_unsafe_code():
    for name, package in crates().items():
        if name == "dichroic-pipeline":
            continue
        for target in package["targets"]:
            if set(target["kind"]) & {"lib", "bin"}:
                text = Path(target["src_path"]).read_text()
                assert "forbid(unsafe_code)" in text, target["src_path"]


def test_the_python_package_has_no_mandatory_dependency():
    text = (ROOT / "python-shim" / "pyproject.toml").read_text()
    match = re.search(r"^dependencies\s*=\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert match is None or match.group(1).strip() == ""


def test_ci_runs_the_python_package_on_every_version_that_it_claims():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    project = tomllib.loads((ROOT / "python-shim" / "pyproject.toml").read_text())["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert workflow["jobs"]["python"]["strategy"]["matrix"]["python"] == claimed
    assert project["requires-python"] == f">={claimed[0]}"


def test_the_relay_depends_only_on_otp():
    text = (ROOT / "beam-relay" / "src" / "dichroic.app.src").read_text()
    applications = re.search(r"\{applications, \[(.*?)\]\}", text).group(1)
    assert {a.strip() for a in applications.split(",")} == {"kernel", "stdlib"}
    assert "{deps, []}" in (ROOT / "beam-relay" / "rebar.config").read_text()


@pytest.mark.parametrize("folder", ["collector", "exporters", "beam-relay", "python-shim", "dashboards", "examples", "scripts"])
def test_no_file_contains_a_path_of_one_machine(folder):
    machine_paths = re.compile(r"(?<![\w.])/(work|root)/")
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and path.suffix in {".rs", ".erl", ".py", ".md", ".toml", ".yaml", ".sh", ".json"}:
            if {"_build", "target", "__pycache__", ".mypy_cache", ".ruff_cache"} & set(path.parts):
                continue
            assert not machine_paths.search(path.read_text(errors="replace")), f"{path}: a path of one machine"

"""The relay's Hex package: built, unpacked, and compiled in a new rebar3 project and a new Mix project."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from harness.process import RELAY


def run(*command: str, cwd: Path) -> str:
    env = {**os.environ, "HOME": str(cwd), "MIX_REBAR3": "/usr/bin/rebar3", "MIX_ENV": "prod"}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The package, unpacked."""
    folder = tmp_path_factory.mktemp("hex")
    tarball = folder / "dichroic.tar"
    run("escript", "hex.escript", str(tarball), cwd=RELAY)
    with tarfile.open(tarball) as outer:
        outer.extractall(folder / "outer")
    with tarfile.open(folder / "outer" / "contents.tar.gz") as inner:
        inner.extractall(folder / "dichroic")
    return folder


def test_the_checksum_is_that_of_version_metadata_and_contents(package):
    outer = package / "outer"
    parts = b"".join((outer / name).read_bytes() for name in ("VERSION", "metadata.config", "contents.tar.gz"))
    assert (outer / "CHECKSUM").read_text() == hashlib.sha256(parts).hexdigest().upper()


def test_the_package_is_reproducible(package, tmp_path):
    run("escript", "hex.escript", str(tmp_path / "again.tar"), cwd=RELAY)
    with tarfile.open(tmp_path / "again.tar") as again:
        contents = again.extractfile("contents.tar.gz").read()
    assert contents == (package / "outer" / "contents.tar.gz").read_bytes()


STARTS = '{ok, _} = application:ensure_all_started(dichroic), io:format("started~n"), halt().'


def test_it_compiles_and_starts_in_a_fresh_rebar3_project(package, tmp_path):
    project = tmp_path / "fresh"
    (project / "src").mkdir(parents=True)
    (project / "_checkouts").mkdir()
    shutil.copytree(package / "dichroic", project / "_checkouts" / "dichroic")
    (project / "rebar.config").write_text("{deps, [dichroic]}.\n")
    (project / "src" / "fresh.app.src").write_text(
        '{application, fresh, [{vsn, "1"}, {applications, [kernel, stdlib, dichroic]}, {modules, []}]}.\n'
    )
    run("rebar3", "compile", cwd=project)
    ebins = [str(app.parent) for app in project.glob("_build/default/**/ebin/*.app")]
    assert "started" in run("erl", "-noshell", "-pa", *ebins, "-eval", STARTS, cwd=project)


MIX = """\
defmodule Fresh.MixProject do
  use Mix.Project

  def project, do: [app: :fresh, version: "1.0.0", elixir: "~> 1.14", deps: [{:dichroic, path: "%s"}]]
  def application, do: [extra_applications: [:logger]]
end
"""


def test_it_compiles_and_starts_in_a_fresh_mix_project(package, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "fresh.ex").write_text("defmodule Fresh do\nend\n")
    (tmp_path / "mix.exs").write_text(MIX % (package / "dichroic"))
    code = "IO.inspect(Application.started_applications() |> Enum.any?(&match?({:dichroic, _, _}, &1)))"
    assert "true" in run("mix", "run", "-e", code, cwd=tmp_path)

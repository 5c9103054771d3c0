"""`dichroic.start` and `python -m dichroic`, with a script instead of the executable."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dichroic
from dichroic import _find_bin, find_bin

from .conftest import asynchronous

SOURCE = str(Path(dichroic.__file__).parents[1])
STAND_IN = """
import json, os, signal, sys
arguments = sys.argv[1:]
def after(option):
    return arguments[arguments.index(option) + 1] if option in arguments else None
if "--fail" in arguments:
    sys.exit(78)
if "--stubborn" in arguments:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
config = after("--config")
ready = {"socket": "/run/stand-in.sock", "config": json.load(open(config)) if config else None, "args": arguments}
if "--never" not in arguments:
    with open(after("--ready-file") + ".part", "w") as file:
        json.dump(ready, file)
    os.rename(after("--ready-file") + ".part", after("--ready-file"))
signal.pause()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "dichroic"
    path.write_text(f"#!{sys.executable} -S\n{STAND_IN}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("DICHROIC_BIN", str(path))
    return path


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynchronous
async def test_a_sidecar_is_ready_when_the_block_starts_and_stopped_when_it_ends(stand_in: Path) -> None:
    async with dichroic.start({"admin": {"listen": "127.0.0.1:0"}}, args=["--scrape", "http://x"]) as sidecar:
        assert sidecar.endpoints["config"] == {"admin": {"listen": "127.0.0.1:0"}}
        assert sidecar.endpoints["args"][0] == "run"
        assert sidecar.endpoints["args"][-2:] == ["--scrape", "http://x"]
        assert sidecar.socket == "/run/stand-in.sock"
        assert str(sidecar.connect()._address.endpoint) == "unix:///run/stand-in.sock"
        pid = sidecar.pid
        assert pid is not None
        assert is_alive(pid)
    assert not is_alive(pid)


@asynchronous
async def test_a_sidecar_that_exits_at_once_is_reported_with_its_status(stand_in: Path) -> None:
    with pytest.raises(dichroic.SidecarError, match="exited with status 78"):
        await dichroic.start(args=["--fail"]).__aenter__()


@asynchronous
async def test_a_sidecar_that_is_never_ready_is_stopped(stand_in: Path) -> None:
    sidecar = dichroic.start(args=["--never", "--stubborn"], timeout=0.3, stop_timeout=0.1)
    with pytest.raises(dichroic.SidecarError, match=r"not ready within 0\.3 s"):
        await sidecar.__aenter__()
    assert sidecar.pid is None


def test_a_sidecar_ends_with_its_parent(stand_in: Path) -> None:
    program = """
import asyncio, dichroic, sys
async def main():
    async with dichroic.start() as sidecar:
        print(sidecar.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline, "the sidecar outlived its parent"
        time.sleep(0.01)


def test_python_dash_m_runs_the_executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dichroic"
    path.write_text(f"#!{sys.executable} -S\nimport json, sys; print(json.dumps(sys.argv[1:]))\n")
    path.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": SOURCE, "DICHROIC_BIN": str(path)}
    command = [sys.executable, "-m", "dichroic", "tap", "--format", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["tap", "--format", "json"]


def test_a_missing_executable_is_reported_with_every_path_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICHROIC_BIN", str(tmp_path / "absent"))
    with pytest.raises(dichroic.BinaryNotFoundError, match="absent, which is not an executable file"):
        find_bin()
    monkeypatch.delenv("DICHROIC_BIN")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(_find_bin, "_directories", lambda: iter([str(tmp_path / "bin")]))
    with pytest.raises(dichroic.BinaryNotFoundError, match=r"bin/dichroic, nor on \$PATH"):
        find_bin()


def test_the_executable_of_the_wheel_precedes_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICHROIC_BIN", raising=False)
    for folder, content in (("script", b"#!/bin/sh\n"), ("wheel", b"\x7fELF"), ("path", b"\x7fELF")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dichroic").write_bytes(content)
        (tmp_path / folder / "dichroic").chmod(0o755)
    places = [str(tmp_path / "script"), str(tmp_path / "wheel")]
    monkeypatch.setattr(_find_bin, "_directories", lambda: iter(places))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_bin() == str(tmp_path / "wheel" / "dichroic")
    assert asyncio.iscoroutinefunction(dichroic.start) is False

"""Compiled Erlang modules for nodes: telemetry, the relay, the shop, modules of tests."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.process import DEMO, RELAY, ROOT


def telemetry_path() -> Path:
    """The compiled `telemetry`: $TELEMETRY_EBIN, else the relay's test double."""
    if given := os.environ.get("TELEMETRY_EBIN"):
        return Path(given)
    support = RELAY / "test" / "support"
    return compiled("telemetry", sorted(support.glob("telemetry*.erl")), support / "telemetry.app")


def erlang_paths() -> list[Path]:
    """Folders of compiled modules: telemetry, the relay, the shop."""
    source = RELAY / "src"
    relay = compiled("dichroic", sorted(source.glob("*.erl")), source / "dichroic.app.src")
    return [telemetry_path(), library(relay), compiled("shop", [DEMO / "shop.erl"])]


def library(ebin: Path) -> Path:
    """The relay as OTP arranges an application: `ebin`, and `priv` with the plan that it has built in. Returns its `ebin`."""
    folder = ebin.parent / "lib" / "dichroic"
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in (("ebin", ebin), ("priv", RELAY / "priv")):
        link = folder / name
        if link.is_symlink() and link.readlink() == target:
            continue
        # Missing, or of a tree from which this one was copied.
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return folder / "ebin"


@functools.cache
def otp_release() -> str:
    """The OTP release of the first `erl` on $PATH."""
    code = "io:put_chars(erlang:system_info(otp_release)), halt()."
    return subprocess.run(["erl", "-noshell", "-eval", code], capture_output=True, text=True, check=True).stdout


def compiled(name: str, sources: Sequence[Path], app: Path | None = None) -> Path:
    """Returns the folder of compiled modules under build/, one per OTP; compiles when a source is newer."""
    into = ROOT / "build" / "test-ebin" / otp_release() / name
    read = [
        *sources,
        *([app] if app else []),
        *(p for s in sources[:1] for p in s.parent.glob("*.hrl")),
    ]
    newest = max(path.stat().st_mtime for path in read)
    if into.is_dir() and into.stat().st_mtime > newest:
        return into
    into.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=into.parent))
    done = subprocess.run(
        ["erlc", "-o", str(fresh), *map(str, sources)],
        capture_output=True,
        text=True,
        check=False,
        cwd=sources[0].parent,
    )
    assert done.returncode == 0, f"erlc of {name}:\n{done.stdout}{done.stderr}"
    if app is not None:
        (fresh / f"{name}.app").write_text(app.read_text())
    if into.exists():
        shutil.rmtree(into)
    try:
        fresh.rename(into)
    except OSError:  # a concurrent run was faster
        shutil.rmtree(fresh)
    return into

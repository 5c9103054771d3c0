"""Another user of the machine can neither stop the collector nor make it replace files that are not its own."""

import fcntl
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.collector import Collector, dichroic_bin

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(path: Path, *args: str) -> str:
    """The message of a start that fails with its socket at this path."""
    config = path.parent / "refused.yaml"
    config.write_text(
        f"security: {{ local_socket: {{ path: {path} }} }}\n"
        "receivers: { otlp: { grpc: false, http: false } }\n"
        "exporters: { prometheus: { listen: false } }\nadmin: { listen: false }\n"
    )
    command = [str(dichroic_bin()), "run", "--config", str(config), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that other users can reach."""
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o711)
    yield tmp_path


def test_no_other_user_can_lock_the_socket():
    with Collector() as collector:
        lock = collector.socket.with_suffix(".lock")
        assert (mode(lock), mode(collector.socket)) == (0o600, 0o600)
    if os.geteuid() == 0:
        with Collector() as collector:
            collector.folder.chmod(0o711)
            lock = collector.socket.with_suffix(".lock")
            take = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "flock", "--nonblock", str(lock), "true"]
            taken = subprocess.run(take, capture_output=True, text=True, check=False)
            assert "Permission denied" in taken.stderr


def test_a_lock_of_an_earlier_version_becomes_private(folder: Path):
    path = folder / "s.sock"
    lock = path.with_suffix(".lock")
    lock.touch(0o644)
    lock.chmod(0o644)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another collector runs there" in refused(path)
    assert mode(lock) == 0o600


def test_a_link_in_place_of_the_lock_is_not_followed(folder: Path):
    elsewhere = folder / "elsewhere"
    (folder / "s.lock").symlink_to(elsewhere)
    assert "not a lock file of this user" in refused(folder / "s.sock")
    assert not elsewhere.exists()


def test_only_a_stale_socket_is_removed(folder: Path):
    path = folder / "s.sock"
    path.write_text("precious")
    assert "not a socket" in refused(path)
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another program listens there" in refused(path)
        assert path.is_socket()
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
        assert f"a socket of user {NOBODY}" in refused(path)
        assert path.is_socket()


def test_a_directory_in_which_others_can_replace_the_socket_is_refused(folder: Path):
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert "mode 0777" in refused(shared / "s.sock")
    if os.geteuid() == 0:
        shared.chmod(0o700)
        os.chown(shared, NOBODY, NOBODY)
        assert f"belongs to user {NOBODY}" in refused(shared / "s.sock")
        link = folder / "link"
        link.symlink_to(folder)
        os.lchown(link, NOBODY, NOBODY)
        assert f"belongs to user {NOBODY}" in refused(link / "s.sock")


@pytest.mark.parametrize("kind", ["device", "link", "directory"])
def test_the_ready_file_replaces_only_regular_files(folder: Path, kind: str):
    path = folder / "ready"
    target = folder / "target"
    if kind == "device":
        if os.geteuid() != 0:
            pytest.skip("only root creates devices")
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "link":
        target.write_text("precious")
        path.symlink_to(target)
    else:
        path.mkdir()
    before = path.lstat()
    assert "not a regular file" in refused(folder / "s.sock", "--ready-file", str(path))
    after = path.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert kind != "link" or target.read_text() == "precious"


def test_the_ready_file_is_private_and_removed_at_the_end():
    collector = Collector()
    with collector:
        assert mode(collector.ready_file) == 0o600
        assert [path.name for path in collector.folder.iterdir() if "partial" in path.name] == []
        collector.stop()
        assert not collector.ready_file.exists()
        assert not collector.socket.exists()

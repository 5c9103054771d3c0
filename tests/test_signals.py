"""Signals at any moment, also before the collector is ready and while it reads its configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness.collector import Collector, dichroic_bin
from harness.process import wait_until


def handled(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def reading_from(fifo: Path) -> subprocess.Popen[bytes]:
    """A collector that waits for its configuration; its signals are handled."""
    child = subprocess.Popen([str(dichroic_bin()), "run", "--config", str(fifo)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: all(handled(child.pid, n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)), 20, "handlers")
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_configuration_is_read_ends_the_process_in_order(tmp_path: Path, number: signal.Signals):
    fifo = tmp_path / "dichroic.yaml"
    os.mkfifo(fifo)
    child = reading_from(fifo)
    child.send_signal(signal.SIGHUP)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, b"")


def test_handlers_are_installed_before_anything_is_read_or_bound(tmp_path: Path):
    """Signals at many moments after the handlers: each ends the process in order, however far the start is."""
    config = {
        "receivers": {"otlp": {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0"}},
        "exporters": {"prometheus": {"listen": "127.0.0.1:0"}},
        "admin": {"listen": "127.0.0.1:0"},
        "security": {"local_socket": {"path": str(tmp_path / "s.sock")}},
    }
    path = tmp_path / "dichroic.yaml"
    path.write_text(json.dumps(config))
    for milliseconds in range(0, 60, 3):
        child = subprocess.Popen([str(dichroic_bin()), "run", "--config", str(path)], stdout=subprocess.DEVNULL)
        while not handled(child.pid, signal.SIGHUP):
            assert child.poll() is None
        child.send_signal(signal.SIGHUP)
        time.sleep(milliseconds / 1000)
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0, f"after {milliseconds} ms"
        assert not (tmp_path / "s.sock").exists(), f"after {milliseconds} ms"


def test_a_reload_that_waits_for_the_file_delays_neither_the_next_reload_nor_the_stop():
    with Collector() as collector:
        text = collector.config_file.read_text()
        collector.config_file.unlink()
        os.mkfifo(collector.config_file)
        collector.child.send_signal(signal.SIGHUP)
        collector.child.send_signal(signal.SIGHUP)
        # The first reading waits for a writer. Further signals are remembered, as one.
        time.sleep(0.2)
        collector.child.send_signal(signal.SIGHUP)
        collector.wait_line("the configuration file is still being read")
        reloaded = lambda n: collector.output().count("configuration reloaded") == n
        for n in (1, 2):
            collector.config_file.write_text(text)
            wait_until(lambda n=n: reloaded(n), 20, f"reading {n}")
        collector.child.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        started = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - started < 5

"""Programs as actors, and waiting for conditions."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"
RELAY = ROOT / "beam-relay"
PYTHON = os.environ.get("DICHROIC_PYTHON", sys.executable)

T = TypeVar("T")
Json = Any


class Timeout(AssertionError):
    """A condition was not true in time."""


# Shortest deadline of a wait, for machines that are slow or busy. Only failing tests wait that long.
PATIENCE = 60.0


def wait_until(condition: Callable[[], T | None], seconds: float, what: str, exact: bool = False) -> T:
    """Returns the first truthy value of the condition. An exception counts as false; the last one is in the timeout's message.

    `exact` is for deadlines that are part of the check; others are extended to `PATIENCE`.
    """
    if not exact:
        seconds = max(seconds, PATIENCE)
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, ValueError, KeyError, IndexError, AssertionError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise Timeout(f"waited {seconds:g} s for {what}; last seen: {last!r}")
        time.sleep(0.05)


def http_get(url: str, headers: Mapping[str, str] | None = None, timeout: float = PATIENCE) -> tuple[int, str]:
    """Returns status and body, also of an HTTP error."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def free_port() -> int:
    """Returns a free port, for programs that cannot report the port they take."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Children end with a killed test run. setpriv executes the program, so the pid is the program's.
_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


class Process:
    """A program and its output. `argv()` is called before each start."""

    name = "process"
    stop_seconds = 30.0
    # By default the lines of standard error are among `lines`.
    stderr: int | IO[str] = subprocess.STDOUT

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"dichroic-{self.name}-"))
        self.lines: list[str] = []
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    # ---- overridden by actors ----

    def argv(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def wait_ready(self) -> None:
        """Returns when the program is ready."""

    # ---- lifecycle ----

    def start(self) -> None:
        assert self._child is None, f"{self.name} is already running"
        self.lines = []
        self._child = subprocess.Popen(
            [*_WITH_PARENT, *self.argv()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            errors="replace",
            env={**os.environ, **self.environment()},
        )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout, self.lines), daemon=True)
        self._reader.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            self._remove_folder()
            raise

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    @property
    def child(self) -> subprocess.Popen[str]:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_line(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Returns the first match in the output; fails at once if the program ended."""

        def found() -> re.Match[str] | None:
            ended = not self.running()
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if ended:
                raise SystemError(f"{self.name} ended with {self.child.returncode}:\n{self.output()}")
            return None

        return wait_until(
            found,
            seconds,
            f"{pattern!r} in the output of {self.name}:\n{self.output()}",
        )

    def send_line(self, line: str) -> None:
        """Writes a line to the program's standard input."""
        assert self.child.stdin is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code; SIGKILL after `stop_seconds`."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._child is None:
            return 0
        child = self._child
        if child.poll() is None:
            child.send_signal(how)
        return self._wait_end(child)

    def _wait_end(self, child: subprocess.Popen[str]) -> int:
        try:
            code = child.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
            self.lines.append(f"{self.name} did not end within {self.stop_seconds:g} s and was killed")
        if self._reader is not None:
            self._reader.join(5)
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        self._child = None
        return code

    def restart(self) -> None:
        """Kills it and starts it again with the same configuration."""
        self.kill()
        self.start()

    def _remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._remove_folder()

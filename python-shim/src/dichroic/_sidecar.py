"""`dichroic.start`: runs the collector as a child process that ends with its parent.

A short Python launcher requests SIGTERM on the parent's death (PR_SET_PDEATHSIG) and then executes the collector;
`preexec_fn` would run Python between fork and exec, which is unsafe with threads. The kernel signals when the *thread*
that started the child ends, so start the sidecar from a long-lived thread. Without Linux, the child ends only with the
`async with` block.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from ._address import SOCKET_VARIABLE
from ._client import Client, connect
from ._deadline import bounded
from ._errors import SidecarError
from ._find_bin import find_bin

POLL_SECONDS: Final = 0.01
_LAUNCHER: Final = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Sidecar:
    """A collector process. Enter it as an async context manager.

    Attributes:
        endpoints: Contents of the ready file, such as the addresses of listeners.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None,
        args: Sequence[str],
        env: Mapping[str, str] | None,
        timeout: float,
        stop_timeout: float,
    ) -> None:
        self._config = config
        self._args = list(args)
        self._env = env
        self._timeout = timeout
        self._stop_timeout = stop_timeout
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.endpoints: dict[str, Any] = {}

    async def __aenter__(self) -> Sidecar:
        self._directory = tempfile.TemporaryDirectory(prefix="dichroic-")
        try:
            ready = os.path.join(self._directory.name, "ready.json")
            command = [find_bin(), "run", "--ready-file", ready, *self._config_arguments(), *self._args]
            environment = {**os.environ, **self._env} if self._env is not None else None
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command,
                stdin=asyncio.subprocess.DEVNULL, env=environment,
            )  # fmt: skip
            await self._until_ready(ready)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _config_arguments(self) -> list[str]:
        if self._config is None:
            return []
        if isinstance(self._config, Mapping):
            assert self._directory is not None
            path = os.path.join(self._directory.name, "dichroic.yaml")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self._config, file)  # JSON is YAML
            return ["--config", path]
        return ["--config", os.fspath(self._config)]

    async def _until_ready(self, path: str) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while not self._read_ready(path):
                done, _ = await asyncio.wait({ended}, timeout=POLL_SECONDS)
                if done:
                    raise SidecarError(f"the sidecar exited with status {ended.result()}; see its log on stderr")
                if loop.time() > deadline:
                    raise SidecarError(f"the sidecar was not ready within {self._timeout} s")
        finally:
            if not ended.done():
                ended.cancel()

    def _read_ready(self, path: str) -> bool:
        try:
            with open(path, "rb") as file:
                endpoints = json.load(file)
        except (FileNotFoundError, json.JSONDecodeError):
            return False  # missing or incomplete
        self.endpoints = endpoints if isinstance(endpoints, dict) else {}
        return True

    @property
    def pid(self) -> int | None:
        """Process id; None when it is not running."""
        return self._process.pid if self._process is not None else None

    @property
    def socket(self) -> str | None:
        """Path of the local socket: from the ready file, else `$DICHROIC_SOCKET` of its environment."""
        for key in ("socket", "local_socket"):
            path = self.endpoints.get(key)
            if isinstance(path, str):
                return path
        return (self._env or {}).get(SOCKET_VARIABLE)

    def connect(self) -> Client:
        """Returns a client of this collector. See `connect`."""
        return connect(self.socket)

    async def stop(self) -> None:
        """Stops the process: SIGTERM, which drains, then SIGKILL after `stop_timeout`."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            try:
                process.send_signal(signal.SIGTERM)
                await bounded(process.wait(), self._stop_timeout)
            except ProcessLookupError:
                pass
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


def start(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    stop_timeout: float = 10.0,
) -> Sidecar:
    """Runs the collector: `async with dichroic.start(config) as sidecar:`. The block starts when it is ready.

    Args:
        config: Path of a configuration file, or the configuration as a mapping.
        args: Further arguments of `dichroic run`.
        env: Variables added to the environment.
        timeout: Seconds until it must be ready.
        stop_timeout: Seconds from SIGTERM to SIGKILL.

    Raises:
        BinaryNotFoundError: The executable was not found.
        SidecarError: The process exited or was not ready in time.
    """
    return Sidecar(config, args, env, timeout, stop_timeout)

"""`dichroic.start`: the sidecar as a child process that dies with its parent.

The child is started through a few lines of Python that ask the kernel for SIGTERM on the parent's death and then become
the executable: `preexec_fn` would run Python between fork and exec in a process that may have threads. Elsewhere than
on Linux the child ends with the `async with` block. The kernel watches the *thread* that started it: start the sidecar
from one that lives as long as it should.
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
    """A running sidecar. `endpoints` is what its ready file says; `connect()` reaches its local socket."""

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
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.endpoints: dict[str, Any] = {}

    async def __aenter__(self) -> Sidecar:
        self._folder = tempfile.TemporaryDirectory(prefix="dichroic-")
        try:
            ready = os.path.join(self._folder.name, "ready.json")
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
            assert self._folder is not None
            path = os.path.join(self._folder.name, "dichroic.yaml")
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
                    raise SidecarError(f"the sidecar ended with status {ended.result()}; its last words are on stderr")
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
            return False  # not there, or not whole yet
        self.endpoints = endpoints if isinstance(endpoints, dict) else {}
        return True

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def socket(self) -> str | None:
        """The path of its local socket: what the ready file says, else the `$DICHROIC_SOCKET` it was started with."""
        for key in ("socket", "local_socket"):
            path = self.endpoints.get(key)
            if isinstance(path, str):
                return path
        return (self._env or {}).get(SOCKET_VARIABLE)

    def connect(self) -> Client:
        """A client of this sidecar."""
        return connect(self.socket)

    async def stop(self) -> None:
        """SIGTERM, which drains; SIGKILL when that takes too long."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            try:
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), self._stop_timeout)
            except ProcessLookupError:
                pass
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def start(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    stop_timeout: float = 10.0,
) -> Sidecar:
    """Runs the sidecar: `async with dichroic.start(config) as sidecar:`; ready when the block begins.

    `config` is a path, or the configuration itself as a mapping; `args` are further arguments of `dichroic run`;
    `env` is added to the environment.
    """
    return Sidecar(config, args, env, timeout, stop_timeout)

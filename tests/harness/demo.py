"""The programs of examples/demo as actors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.collector import Collector
from harness.erlang import compiled, erlang_paths
from harness.process import DEMO, PYTHON, Process


class Shop(Process):
    """The demo's Erlang node with the relay. After `stop()`, `truth` is its own count of what it emitted."""

    name = "shop"

    def __init__(
        self,
        collector: Collector | None = None,
        rate: int = 50,
        env: Mapping[str, str] | None = None,
        modules: Sequence[Path] = (),
        erl: Sequence[str] = (),
    ):
        """Without a collector its relay waits for the one that `env` names.

        `modules` are Erlang files whose `start/0` is called in the node; `erl` are further arguments of the VM.
        """
        super().__init__()
        self.rate = rate
        self.modules = list(modules)
        self.erl = list(erl)
        self.truth: dict[str, int] = {}
        self._env = dict(env or {})
        if collector is not None:
            self._env.setdefault("DICHROIC_SOCKET", str(collector.socket))

    def argv(self) -> Sequence[str]:
        also = "".join(f"{module.stem}:start(), " for module in self.modules)
        boot = (
            "{ok, _} = application:ensure_all_started(telemetry), {ok, _} = application:ensure_all_started(dichroic), "
            f"{also}spawn(fun() -> shop:main(['{self.rate}']) end)."
        )
        # A node name without a listener and without epmd.
        name = ["-name", "shop@127.0.0.1", "-setcookie", "demo", "-dist_listen", "false", "-start_epmd", "false"]
        paths = [part for ebin in self._code() for part in ("-pa", str(ebin))]
        return ["erl", "-noshell", *name, *paths, *self.erl, "-eval", boot]

    def _code(self) -> list[Path]:
        return [*erlang_paths(), *(compiled(module.stem, [module]) for module in self.modules)]

    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder), "ERL_CRASH_DUMP_SECONDS": "0", **self._env}

    def wait_ready(self) -> None:
        self.wait_line(r"serving \d+ requests a second")

    def stop(self) -> int:
        if not self.running():
            return super().stop()
        child = self.child
        self.send_line("stop")
        code = self._wait_end(child)
        if match := re.search(r"^truth (\{.*\})$", self.output(), re.MULTILINE):
            self.truth = json.loads(match[1])
        return code


class Embedder(Process):
    """The demo's worker with `prometheus_client`, whose page is at `url`. A restart keeps the port."""

    name = "embedder"

    def __init__(self) -> None:
        super().__init__()
        self.port = 0

    def argv(self) -> Sequence[str]:
        return [PYTHON, str(DEMO / "embedder.py"), str(self.port)]

    def wait_ready(self) -> None:
        self.port = int(self.wait_line(r"page on http://127\.0\.0\.1:(\d+)/metrics")[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"


class Recommender(Process):
    """The demo's service with `opentelemetry-sdk`, pushing OTLP over HTTP to the collector."""

    name = "recommender"

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self.collector = collector

    def argv(self) -> Sequence[str]:
        return [PYTHON, str(DEMO / "recommender.py"), self.collector.otlp_http]

    def wait_ready(self) -> None:
        self.wait_line(r"pushing OTLP to")

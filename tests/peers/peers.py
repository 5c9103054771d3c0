"""The peers as processes: a current Prometheus, an OpenTelemetry Collector, and programs with the SDKs of Go and JavaScript."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from harness.process import ROOT, Process, free_port, http_get, wait_until
from harness.prometheus import Prometheus

PEERS = ROOT / "build" / "peers"


def program(name: str) -> str:
    """The path of a program that `scripts/build-peers.sh` has built."""
    path = PEERS / "bin" / name
    assert path.is_file(), f"{path} is missing: run scripts/build-peers.sh, or make test-peers"
    return str(path)


class Prometheus3(Prometheus):
    """Prometheus 3, which negotiates UTF-8 names and protobuf, where the Debian package is a 2.x."""

    name = "prometheus3"

    def argv(self) -> Sequence[str]:
        return [program("prometheus"), *super().argv()[1:]]


class OpenTelemetryCollector(Process):
    """An OpenTelemetry Collector with this configuration; `{port}` in it stands for the port of its OTLP receiver."""

    name = "otelcol"

    def __init__(self, config: Mapping[str, Any], health: str):
        """`health`: a URL that answers when the collector serves."""
        super().__init__()
        self.config, self.health = config, health

    def argv(self) -> Sequence[str]:
        file = self.folder / "otelcol.json"  # JSON is YAML
        file.write_text(json.dumps(self.config))
        return [program("otelcol"), f"--config=file:{file}"]

    def wait_ready(self) -> None:
        def serves() -> bool:
            assert self.running(), self.output()
            return http_get(self.health)[0] < 500

        wait_until(serves, 30, "the OpenTelemetry Collector to serve")


def collector_config(**parts: Any) -> dict[str, Any]:
    """A configuration with one metrics pipeline. Its own metrics are off: their default port may be taken."""
    return {
        "receivers": parts["receivers"],
        "exporters": parts["exporters"],
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"metrics": {"receivers": list(parts["receivers"]), "exporters": list(parts["exporters"])}},
        },
    }


def emit_with_go(protocol: str, address: str, milliseconds: Sequence[int]) -> None:
    """Records each duration once with OpenTelemetry's Go SDK. `address` is host:port, protocol `grpc` or `http`."""
    run([program("gosdk"), protocol, address, *map(str, milliseconds)])


def emit_with_javascript(protocol: str, url: str, milliseconds: Sequence[int]) -> None:
    """Records each duration once with OpenTelemetry's JavaScript SDK; protocol is `grpc`, `proto` or `json`."""
    script = PEERS / "nodesdk" / "emit.mjs"
    assert script.is_file(), f"{script} is missing: run scripts/build-peers.sh, or make test-peers"
    run(["node", str(script), protocol, url, *map(str, milliseconds)])


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


__all__ = [
    "OpenTelemetryCollector",
    "Prometheus3",
    "collector_config",
    "emit_with_go",
    "emit_with_javascript",
    "free_port",
]

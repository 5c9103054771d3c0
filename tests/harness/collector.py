"""The collector as a process: `dichroic run`."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.process import ROOT, Json, Process, http_get, wait_until


def dichroic_bin() -> Path:
    """The collector's binary: $DICHROIC_BIN, else the debug build."""
    path = Path(os.environ.get("DICHROIC_BIN") or ROOT / "target" / "debug" / "dichroic")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run `cargo build -p dichroic`, or set DICHROIC_BIN")
    return path


class Collector(Process):
    """`dichroic run` on free ports, with a private socket. A restart keeps the addresses of the first start.

    `config` is merged over the default of this class; `scrape` are pages to scrape every second as job `workers`.
    """

    name = "collector"

    def __init__(
        self,
        scrape: Sequence[str] = (),
        config: Mapping[str, Json] | None = None,
        args: Sequence[str] = (),
    ):
        super().__init__()
        self.socket = self.folder / "s.sock"
        self.ready_file = self.folder / "ready.json"
        self.config_file = self.folder / "dichroic.yaml"
        self.args = list(args)
        self.endpoints: dict[str, Json] = {}
        targets = [urllib.parse.urlsplit(url if "://" in url else f"http://{url}").netloc for url in scrape]
        jobs = [
            {
                "job_name": "workers",
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "static_configs": [{"targets": targets}],
            }
        ]
        anywhere = "127.0.0.1:0"
        self.config: dict[str, Json] = merged(
            {
                "receivers": {
                    "otlp": {"grpc": anywhere, "http": anywhere},
                    "prometheus": {"scrape_configs": jobs if targets else []},
                },
                "exporters": {"prometheus": {"listen": anywhere}},
                "admin": {"listen": anywhere},
                "security": {"local_socket": {"path": str(self.socket)}},
                # Shorter than the default of 5 s, so that tests wait less.
                "telemetry": {"interval": "1s"},
            },
            config or {},
        )

    def _keep_addresses(self) -> None:
        took = {
            ("receivers", "otlp", "grpc"): "otlp_grpc",
            ("receivers", "otlp", "http"): "otlp_http",
            ("exporters", "prometheus", "listen"): "prometheus",
            ("admin", "listen"): "admin",
        }
        for path, name in took.items():
            *sections, key = path
            place = self.config
            for section in sections:
                place = place[section]
            place[key] = self.endpoints[name] or False
        if self.endpoints["local_tcp"]:
            self.config["security"]["local_tcp"]["listen"] = self.endpoints["local_tcp"]

    def argv(self) -> Sequence[str]:
        if self.endpoints:
            self._keep_addresses()
        # JSON is YAML.
        self.config_file.write_text(json.dumps(self.config, indent=2) + "\n")
        self.ready_file.unlink(missing_ok=True)
        run = [
            "run",
            "--config",
            str(self.config_file),
            "--ready-file",
            str(self.ready_file),
        ]
        return [str(dichroic_bin()), *run, *self.args]

    def wait_ready(self) -> None:
        def ready() -> bool:
            if not self.running():
                raise SystemError(f"the collector ended with {self.child.returncode}:\n{self.output()}")
            return self.ready_file.is_file()

        wait_until(ready, 20, "the collector's ready file")
        self.endpoints = json.loads(self.ready_file.read_text())

    # ---- its endpoints ----

    @property
    def prometheus(self) -> str:
        """host:port of the Prometheus page."""
        return str(self.endpoints["prometheus"])

    @property
    def admin(self) -> str:
        """host:port of the admin API and the stream."""
        return str(self.endpoints["admin"])

    @property
    def otlp_http(self) -> str:
        return f"http://{self.endpoints['otlp_http']}"

    @property
    def otlp_grpc(self) -> str:
        return f"http://{self.endpoints['otlp_grpc']}"

    @property
    def local_tcp(self) -> str:
        """host:port of the TCP listener for relays and subscribers, if configured."""
        return str(self.endpoints["local_tcp"])

    @property
    def address(self) -> str:
        """The address for `dichroic.connect`."""
        return f"unix://{self.endpoints.get('socket', self.socket)}"

    def metrics(self, accept: str = "text/plain;version=0.0.4") -> str:
        status, body = http_get(f"http://{self.prometheus}/metrics", {"Accept": accept})
        assert status == 200, f"/metrics answers {status}: {body}"
        return body

    def api(self, path: str) -> Json:
        """Returns a document of the admin API, such as `/api/v1/ledger`."""
        status, body = http_get(f"http://{self.admin}{path}")
        assert status == 200, f"{path} answers {status}: {body}"
        return json.loads(body)

    def ledger(self) -> Json:
        return self.api("/api/v1/ledger")

    def sources(self) -> Json:
        return self.api("/api/v1/sources")

    def catalog(self) -> Json:
        return self.api("/api/v1/catalog")

    def run_command(self, *args: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a command of the binary with this collector, such as `ledger --check`."""
        return subprocess.run(
            [str(dichroic_bin()), *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "DICHROIC_ADMIN": self.admin},
            check=False,
        )


def merged(base: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    """Merges mappings; other values replace."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out

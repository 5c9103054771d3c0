"""The actors of a system test: the collector, the demo's programs, and a Prometheus that scrapes the collector.

Every actor runs a real program on loopback and is a context manager: entering it starts the program and waits until it serves;
leaving it ends that process. Listeners take free ports. Tests do not sleep for a fixed time: `wait_until` polls a condition
until a deadline, and reports the last value when the deadline passes.

    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector, Shop(collector) as shop:
        wait_until(lambda: "http_server_request_duration_seconds" in collector.metrics(), 20, "requests of the shop")
"""

from __future__ import annotations

import functools
import json
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
import urllib.parse
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


def wait_until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Returns the first truthy value of the condition. An exception counts as false; the last one is in the timeout's message."""
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


def http_get(url: str, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> tuple[int, str]:
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


def dichroic_bin() -> Path:
    """The collector's binary: $DICHROIC_BIN, else the debug build."""
    path = Path(os.environ.get("DICHROIC_BIN") or ROOT / "target" / "debug" / "dichroic")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: run `cargo build -p dichroic`, or set DICHROIC_BIN")
    return path


# Children end with a killed test run. setpriv executes the program, so the pid is the program's.
_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


class Process:
    """A program and its output. `argv()` is called before each start."""

    name = "process"
    stop_seconds = 10.0

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
            stderr=subprocess.STDOUT,
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

    def run_command(self, *args: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
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


class Shop(Process):
    """The demo's Erlang node with the relay. After `stop()`, `truth` is its own count of what it emitted."""

    name = "shop"
    stop_seconds = 20.0

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
    return [telemetry_path(), relay, compiled("shop", [DEMO / "shop.erl"])]


@functools.cache
def otp_release() -> str:
    """The OTP release of the first `erl` on $PATH."""
    ask = "io:put_chars(erlang:system_info(otp_release)), halt()."
    return subprocess.run(["erl", "-noshell", "-eval", ask], capture_output=True, text=True, check=True).stdout


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


def prometheus_folder() -> Path:
    """Folder of `prometheus` and `promtool`; fetched and unpacked once."""
    script = ROOT / "scripts" / "fetch-prometheus.sh"
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.split()[-1])


def promtool(*args: str, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool; the caller checks the exit code."""
    tool = str(prometheus_folder() / "promtool")
    return subprocess.run([tool, *args], capture_output=True, text=True, cwd=cwd, input=stdin, check=False)


class QueryError(AssertionError):
    """Prometheus rejected a query."""


class Prometheus(Process):
    """A Prometheus server that scrapes the collector as the README recommends (`honor_labels: true`).

    A restart keeps port and data.
    """

    name = "prometheus"

    def __init__(
        self,
        target: str,
        rule_files: Sequence[Path] = (),
        job: str = "dichroic",
        interval: str = "1s",
    ):
        """`target` is host:port, such as `collector.prometheus`."""
        super().__init__()
        self.target, self.rule_files, self.job, self.interval = (
            target,
            list(rule_files),
            job,
            interval,
        )
        self.port = 0

    def argv(self) -> Sequence[str]:
        self.port = self.port or free_port()
        scrape = {
            "job_name": self.job,
            "honor_labels": True,
            "static_configs": [{"targets": [self.target]}],
        }
        config = {
            "global": {
                "scrape_interval": self.interval,
                "scrape_timeout": self.interval,
                "evaluation_interval": self.interval,
            },
            "rule_files": [str(path) for path in self.rule_files],
            "scrape_configs": [scrape],
        }
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(config, indent=2))
        return [
            str(prometheus_folder() / "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def wait_ready(self) -> None:
        def ready() -> bool:
            if not self.running():
                raise SystemError(f"prometheus ended with {self.child.returncode}:\n{self.output()}")
            return http_get(f"{self.url}/-/ready")[0] == 200

        wait_until(ready, 30, "prometheus to be ready")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def api(self, path: str, **parameters: str | float) -> Json:
        query = urllib.parse.urlencode({k: str(v) for k, v in parameters.items()})
        status, body = http_get(f"{self.url}/api/v1/{path}?{query}")
        document = json.loads(body)
        if document.get("status") != "success":
            raise QueryError(f"{status} {document.get('error', body)}")
        return document["data"]

    def query(self, promql: str, at: float | None = None) -> list[Json]:
        """Returns the instant vector: a list of {"metric": labels, "value": [time, text]}."""
        result: list[Json] = self.api("query", query=promql, **({} if at is None else {"time": at}))["result"]
        return result

    def wait_query(self, promql: str, seconds: float = 60.0) -> list[Json]:
        """Returns the first result that is not empty. The timeout's message has the errors of the scrapes."""
        try:
            return wait_until(lambda: self.query(promql), seconds, f"a result of {promql}")
        except Timeout as error:
            errors = {target["scrapeUrl"]: target["lastError"] for target in self.api("targets")["activeTargets"]}
            raise Timeout(f"{error}; errors of scrapes: {errors}") from None

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Json]:
        result: list[Json] = self.api("query_range", query=promql, start=start, end=end, step=step)["result"]
        return result

    def scalar(self, promql: str) -> float:
        """Returns the value of a query with exactly one sample."""
        result = self.query(promql)
        assert len(result) == 1, f"{promql} has {len(result)} samples: {result[:3]}"
        return float(result[0]["value"][1])

    def label_values(self, label: str, selector: str) -> list[str]:
        values: list[str] = self.api(f"label/{label}/values", **{"match[]": selector})
        return values

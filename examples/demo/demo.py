"""The demo: one collector, one Erlang node, two Python programs, and one consumer of all their data.

    make demo                       runs until Ctrl-C
    DEMO_SECONDS=30 make demo       runs for thirty seconds

Everything listens on loopback. At the end the ledger must balance; the exit code is 0 only if every source was also
seen on /metrics and in the stream. DEMO_PORTS=free uses free ports instead of the default ones.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "demo"
DEMO = Path(__file__).resolve().parent
RELAY = ROOT / "beam-relay"
# Required sources: the `job` on /metrics, a description, and one metric family of each.
SOURCES = {
    "shop": ("Erlang node", "http_server_request_duration_seconds_count"),
    "scrape": ("embedder.py, scraped", "embedder_texts_total"),
    "shop/recommender": ("recommender.py, OTLP", "http_server_request_duration_seconds_count"),
}
RATE = os.environ.get("DEMO_RATE", "200")
COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOR else text


class Transcript:
    """Output lines with the time since the start and the program's name. Thread-safe."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def write(self, name: str, text: str, color: str = "36") -> None:
        at = f"{time.monotonic() - self.began:5.1f}s"
        with self.lock:
            print(f"{paint('2', at)}  {paint(color, f'{name:<12}')} {text}", flush=True)

    def blank(self) -> None:
        with self.lock:
            print(flush=True)


class Child:
    """A program of the demo. A callback receives its output lines; it is stopped with the demo."""

    def __init__(self, name: str, command: list[str], on_line, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get("DEMO_VERBOSE") else None,
            text=True,
            env={**os.environ, **(env or {})},
            # Only the demo receives Ctrl-C: it stops the programs in order.
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self.reader.start()

    def _read(self, on_line) -> None:
        for line in self.process.stdout:
            on_line(line.rstrip("\n"))

    def write_line(self, line: str) -> None:
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def end(self, how: int = signal.SIGINT, seconds: float = 10) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.join(seconds)

    def join(self, seconds: float = 10) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(2)


class Demo:
    def __init__(self) -> None:
        self.out = Transcript()
        self.children: list[Child] = []
        self.endpoints: dict[str, str] = {}
        self.truth: dict[str, int] = {}
        self.streamed: Counter[tuple[str, str]] = Counter()
        self.shown: Counter[str] = Counter()
        self.first_event: float | None = None
        self.latest: deque[str] = deque(maxlen=1)
        self.gaps = 0
        self.lost = 0
        self.stopping = threading.Event()
        self.page_of_embedder = threading.Event()
        self.embedder = ""

    # ---- start ---------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        signal.signal(signal.SIGINT, lambda *_: self.stopping.set())
        signal.signal(signal.SIGTERM, lambda *_: self.stopping.set())
        seconds = os.environ.get("DEMO_SECONDS")
        seen: dict[str, set[str]] = {"page": set(), "stream": set()}
        balanced = False
        try:
            self.start()
            deadline = time.monotonic() + float(seconds) if seconds else None
            self.watch(deadline, seen)
            balanced = self.finish(seen)
        except Stopped as stopped:
            self.out.write("demo", str(stopped), "31")
        finally:
            for child in reversed(self.children):
                child.end(signal.SIGKILL, 2)
        return self.verdict(seen, balanced)

    def start(self) -> None:
        compile_erlang()
        python = sys.executable
        self.child("embedder", [python, str(DEMO / "embedder.py"), "0" if free_ports() else "8000"], self.on_embedder)
        if not self.page_of_embedder.wait(20):
            raise Stopped("embedder.py did not start; if port 8000 is in use, set DEMO_PORTS=free")
        self.start_collector()
        socket = self.endpoints["socket"]
        self.child("shop", shop_command(), self.on_shop, {"DICHROIC_SOCKET": socket, "OTEL_SERVICE_NAME": "shop"})
        self.child(
            "recommender",
            [python, str(DEMO / "recommender.py"), f"http://{self.endpoints['otlp_http']}"],
            lambda line: self.out.write("recommender", line, "33"),
        )
        path = {"PYTHONPATH": str(ROOT / "python-shim" / "src")}
        self.child("consumer", [python, str(DEMO / "consumer.py"), f"unix://{socket}"], self.on_row, path)

    def child(self, name: str, command: list[str], on_line, env: dict[str, str] | None = None) -> Child:
        child = Child(name, command, on_line, env)
        self.children.append(child)
        return child

    def start_collector(self) -> None:
        ready = Path(tempfile.mkdtemp(prefix="dichroic-demo-")) / "ready.json"
        command = [str(binary()), "run", "--scrape", self.embedder, "--ready-file", str(ready)]
        env = {"DICHROIC_LOG": os.environ.get("DICHROIC_LOG", "warn")}
        if free_ports():
            config = ready.with_name("free-ports.yaml")
            config.write_text(FREE_PORTS.format(socket=ready.with_name("dichroic.sock")))
            command += ["--config", str(config)]
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            self.out.write("collector", line, "35")

        collector = self.child("collector", command, on_line, env)
        deadline = time.monotonic() + 20
        while not ready.exists():
            if collector.process.poll() is not None:
                raise Stopped(
                    "the collector did not start: set DEMO_VERBOSE=1 to see its log, or DEMO_PORTS=free if ports are in use"
                )
            if time.monotonic() > deadline:
                raise Stopped("the collector was not ready within 20 seconds")
            time.sleep(0.02)
        self.endpoints = json.loads(ready.read_text())
        self.out.blank()

    # ---- output of the programs ----------------------------------------------------------------------------------------

    def on_embedder(self, line: str) -> None:
        if match := re.search(r"http://\S+", line):
            self.embedder = match.group()
            self.page_of_embedder.set()
        self.out.write("embedder", line, "33")

    def on_shop(self, line: str) -> None:
        if line.startswith("truth "):
            self.truth = json.loads(line.removeprefix("truth "))
        else:
            self.out.write("shop", line, "32")

    def on_row(self, line: str) -> None:
        row = json.loads(line)
        if row["kind"] == "gap":
            self.gaps += 1
            self.lost += row["lost"] or 0
            return
        self.streamed[(row["source"], row["kind"])] += 1
        if row["kind"] == "metric":
            return
        if self.first_event is None:
            self.first_event = time.monotonic() - self.out.began
        self.shown[row["name"]] += 1
        # Shows the first three of each name and counts the rest.
        if self.shown[row["name"]] <= 3:
            self.out.write("async for", describe(row), "36")

    # ---- while it runs -------------------------------------------------------------------------------------------------

    def watch(self, deadline: float | None, seen: dict[str, set[str]]) -> None:
        known: set[str] = set()
        next_status = time.monotonic() + 2
        before: tuple[float, dict[str, float]] | None = None
        while not self.stopping.is_set() and (deadline is None or time.monotonic() < deadline):
            self.stopping.wait(0.5)
            for child in self.children:
                if child.process.poll() is not None and not self.stopping.is_set():
                    raise Stopped(f"{child.name} exited early with code {child.process.returncode}")
            self.arrivals(known)
            if time.monotonic() >= next_status:
                next_status += 5
                before = self.status(before, seen)

    def arrivals(self, known: set[str]) -> None:
        for source in self.api("sources")["sources"]:
            if source["job"] in known or source["series"] == 0:
                continue
            known.add(source["job"])
            if source["protocol"] == "internal":
                continue
            self.out.write(
                "collector",
                f"new source: {source['name']} ({source['protocol']}, runtime {source['runtime']}), "
                f"job={source['job']!r} instance={source['instance']!r}, {source['series']} series",
                "35",
            )

    def status(self, before, seen: dict[str, set[str]]):
        page = self.page()
        note_jobs(page, seen["page"])
        counts = requests_by_runtime(page)
        now = time.monotonic()
        if before:
            rates = [
                f"{runtime} {(count - before[1].get(runtime, 0)) / (now - before[0]):.0f}/s"
                for runtime, count in sorted(counts.items())
            ]
            events = sum(n for (_, kind), n in self.streamed.items() if kind != "metric")
            points = sum(n for (_, kind), n in self.streamed.items() if kind == "metric")
            self.out.write(
                "now",
                f"http.server.request.duration: {', '.join(rates)} | {len(page)} samples on /metrics | "
                f"{events} events and {points} points in async for, {self.lost} lost",
                "1",
            )
        return now, counts

    # ---- end -----------------------------------------------------------------------------------------------------------

    def finish(self, seen: dict[str, set[str]]) -> bool:
        self.out.blank()
        self.out.write("demo", "stopping the senders, then the collector", "1")
        by_name = {child.name: child for child in self.children}
        by_name["shop"].write_line("stop")
        by_name["shop"].join()
        by_name["recommender"].end()
        page = self.page()
        note_jobs(page, seen["page"])
        jobs = {source["name"]: source["job"] for source in self.api("sources")["sources"]}
        seen["stream"] |= {jobs.get(source, source) for source, _ in self.streamed}
        exact = self.compare(page)
        by_name["consumer"].end()
        ledger = self.settled_ledger()
        print(ledger_table(ledger), flush=True)
        by_name["embedder"].end()
        by_name["collector"].end(signal.SIGTERM)
        clean = by_name["collector"].process.returncode == 0
        if not clean:
            self.out.write("demo", f"the collector exited with code {by_name['collector'].process.returncode}", "31")
        return ledger["balances"] and exact and clean

    def compare(self, page: list[tuple[str, dict[str, str], float]]) -> bool:
        """Compares the shop's own count with /metrics: they must be equal."""
        counted = sum(
            value
            for name, labels, value in page
            if name == "http_server_request_duration_seconds_count" and labels.get("runtime") == "beam"
        )
        truth = self.truth.get("requests", -1)
        verdict = "equal" if counted == truth else "NOT EQUAL"
        self.out.write("demo", f"requests counted by the shop: {truth}; on /metrics: {counted:.0f}: {verdict}", "1")
        return counted == truth

    def settled_ledger(self) -> dict:
        """The ledger after the disconnected consumer's rows are accounted for."""
        deadline = time.monotonic() + 5
        while True:
            ledger = self.api("ledger")
            if ledger["balances"] or time.monotonic() > deadline:
                return ledger
            time.sleep(0.1)

    def verdict(self, seen: dict[str, set[str]], balanced: bool) -> int:
        self.out.blank()
        good = balanced
        for job, (what, _) in SOURCES.items():
            on_page, in_stream = job in seen["page"], job in seen["stream"]
            good &= on_page and in_stream
            print(f"  {what:<24} on /metrics: {mark(on_page)}   in the stream: {mark(in_stream)}")
        if self.first_event is not None:
            print(f"  first event in `async for` after {self.first_event:.1f} s")
        print(f"  {'the ledger balances' if balanced else 'the ledger or a count is WRONG'}; {self.lost} rows lost in the stream")
        return 0 if good else 1

    # ---- the collector's HTTP side ----------------------------------------------------------------------------------------

    def api(self, what: str) -> dict:
        return json.loads(fetch(f"http://{self.endpoints['admin']}/api/v1/{what}"))

    def page(self) -> list[tuple[str, dict[str, str], float]]:
        from prometheus_client.parser import text_string_to_metric_families

        text = fetch(f"http://{self.endpoints['prometheus']}/metrics").decode()
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]


class Stopped(Exception):
    """The demo cannot continue; the message states the reason."""


FREE_PORTS = """\
receivers: {{ otlp: {{ grpc: "127.0.0.1:0", http: "127.0.0.1:0" }} }}
exporters: {{ prometheus: {{ listen: "127.0.0.1:0" }} }}
admin: {{ listen: "127.0.0.1:0" }}
security: {{ local_socket: {{ path: {socket} }} }}
"""


def mark(there: bool) -> str:
    return paint("32", "yes") if there else paint("31", "NO")


def free_ports() -> bool:
    return os.environ.get("DEMO_PORTS") == "free"


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


def note_jobs(page: list[tuple[str, dict[str, str], float]], jobs: set[str]) -> None:
    wanted = {(job, family) for job, (_, family) in SOURCES.items()}
    jobs |= {labels["job"] for name, labels, _ in page if (labels.get("job"), name) in wanted}


def requests_by_runtime(page: list[tuple[str, dict[str, str], float]]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for name, labels, value in page:
        if name == "http_server_request_duration_seconds_count":
            counts[labels.get("runtime", "?")] = counts.get(labels.get("runtime", "?"), 0) + value
    return counts


def describe(row: dict) -> str:
    parts = (row.get("measurements", {}), row["metadata"])
    pairs = [f"{k}={v}" for part in parts for k, v in part.items() if v is not None and not k.startswith("code.")]
    return f"{row['name']:<22} {row.get('body', '')} {' '.join(pairs)}"[:150]


def ledger_table(ledger: dict) -> str:
    rows = [("SOURCE", "SIGNAL", "RECEIVED", "APPLIED", "DROPPED")]
    for account in ledger["ingest"]:
        dropped = ", ".join(f"{n} {reason}" for reason, n in account["dropped"].items()) or "0"
        rows.append((account["source"], account["signal"], str(account["received"]), str(account["applied"]), dropped))
    rows.append(("", "", "", "", ""))
    rows.append(("EXPORTER", "OFFERED", "SENT", "DROPPED", "QUEUED"))
    for hop in ledger["exporters"]:
        rows.append((hop["exporter"], *(str(hop[key]) for key in ("offered", "sent", "dropped", "queued"))))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n" + "\n".join(f"  {line}" for line in lines)


def binary() -> Path:
    named = os.environ.get("DICHROIC_BIN")
    found = Path(named) if named else ROOT / "target" / "release" / "dichroic"
    if not found.exists():
        raise Stopped(f"no binary at {found}: build it with `make demo`")
    return found


def telemetry_ebin() -> str | None:
    """The path of the compiled telemetry library, if given; otherwise the test stand-in is compiled."""
    return os.environ.get("TELEMETRY_EBIN")


def compile_erlang() -> None:
    """Compiles the relay, the shop, and the stand-in for telemetry: plain erlc, no build tool."""
    ebin = BUILD / "ebin"
    ebin.mkdir(parents=True, exist_ok=True)
    sources = [*RELAY.glob("src/*.erl"), DEMO / "shop.erl"]
    if telemetry_ebin() is None:
        sources += RELAY.glob("test/support/telemetry*.erl")
    stale = [s for s in sources if not is_fresh(s, ebin / f"{s.stem}.beam")]
    if stale:
        result = subprocess.run(["erlc", "-o", str(ebin), *map(str, stale)], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise Stopped(f"erlc: {result.stdout}{result.stderr}")
    (ebin / "dichroic.app").write_text((RELAY / "src" / "dichroic.app.src").read_text())
    if telemetry_ebin() is None:
        (ebin / "telemetry.app").write_text((RELAY / "test" / "support" / "telemetry.app").read_text())


def is_fresh(source: Path, beam: Path) -> bool:
    newest = max(source.stat().st_mtime, *(h.stat().st_mtime for h in RELAY.glob("src/*.hrl")))
    return beam.exists() and beam.stat().st_mtime > newest


def shop_command() -> list[str]:
    paths = ["-pa", str(BUILD / "ebin")]
    if ebin := telemetry_ebin():
        paths = ["-pa", ebin, *paths]
    # A node name without a distribution port: the demo needs neither epmd nor a cookie.
    name = ["-name", "shop@127.0.0.1", "-dist_listen", "false", "-start_epmd", "false", "-kernel", "logger_level", "error"]
    apps = "[{ok, _} = application:ensure_all_started(A) || A <- [telemetry, dichroic]]"
    start = f"{apps}, shop:main(['{RATE}'])."
    return ["erl", "-noshell", *name, *paths, "-eval", start]


if __name__ == "__main__":
    sys.exit(Demo().run())

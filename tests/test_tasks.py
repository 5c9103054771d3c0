"""A panic in each task and thread of the collector: it is restarted, contained, or the collector stops with an exit code.

Debug builds look for files named after a task in `DICHROIC_PANIC_DIR`, and panic when they find one.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dichroic
import pytest
from actors import FixedNode, samples, total
from harness.collector import Collector, dichroic_bin
from harness.demo import Embedder
from harness.process import ROOT, http_get, wait_until

PANICS = "dichroic_task_panics_total"
PANICKED = 70
RULES = dict(re.findall(r"^\| `(\w+)` \| .* \| ([\w ]+) \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))

pytestmark = pytest.mark.skipif(
    b"DICHROIC_PANIC_DIR" not in dichroic_bin().read_bytes(), reason="a release build cannot be made to panic"
)


class Panicking(Collector):
    """A collector whose tasks panic on request."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.panics = self.folder / "panics"
        self.panics.mkdir()

    def environment(self) -> dict[str, str]:
        return {"DICHROIC_PANIC_DIR": str(self.panics)}

    def panic(self, name: str) -> None:
        """Returns when a task has panicked."""
        file = self.panics / name
        file.touch()
        wait_until(lambda: not file.exists(), 20, f"a panic of {name}")

    def panicked(self, task: str) -> float:
        return total(self.metrics(), PANICS, task=task)

    def wait_panic(self, task: str) -> None:
        self.panic(task)
        wait_until(lambda: self.panicked(task) == 1, 20, f"the panic of {task} to be counted")
        self.wait_line(f'"task":"{task}"')

    def post(self, connection: http.client.HTTPConnection | None = None) -> int:
        """Sends an empty OTLP request."""
        connection = connection or http.client.HTTPConnection(str(self.endpoints["otlp_http"]), timeout=60)
        connection.request("POST", "/v1/metrics", b"", {"content-type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def health(self) -> tuple[int, str]:
        return http_get(f"http://{self.prometheus}/healthz", timeout=5)


TESTED: set[str] = set()


def for_each(*tasks: str) -> Callable:
    TESTED.update(tasks)
    return pytest.mark.parametrize("task", tasks)


@contextmanager
def scraped() -> Iterator[tuple[Embedder, Panicking]]:
    with Embedder() as embedder, Panicking(scrape=[embedder.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target to be up")
        yield embedder, collector


def target(collector: Collector) -> dict:
    return collector.sources()["targets"][0]


@for_each("scrape_loop", "scrape_connection")
def test_scrapes_continue_after_a_panic(task: str):
    with scraped() as (_, collector):
        before = target(collector)["scrapes"]
        collector.wait_panic(task)
        wait_until(lambda: target(collector)["scrapes"] > before + 2, 20, "further scrapes")
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target to be up")
        assert collector.ledger()["balances"] and collector.health()[0] == 200


def test_a_target_whose_page_panics_is_down_until_a_page_can_be_read():
    with scraped() as (_, collector):
        names = lambda: {
            (name, *sorted(labels.items())) for name, labels, _ in samples(collector.metrics()) if labels.get("job") == "workers"
        }
        before = names()
        down = threading.Event()

        def watch() -> None:
            while not down.is_set():
                if "the scrape panicked" in (target(collector)["last_error"] or ""):
                    down.set()

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        collector.panic("scrape_page")
        assert down.wait(60), "the target was not reported as down"
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target to be up")
        wait_until(lambda: names() >= before, 20, "the series of the target")
        assert collector.panicked("scrape_loop") == 1
        assert collector.ledger()["balances"]


@for_each("otlp_listener")
def test_an_otlp_port_accepts_after_a_panic_and_keeps_its_connections(task: str):
    with Panicking() as collector, closing(http.client.HTTPConnection(str(collector.endpoints["otlp_http"]), timeout=60)) as kept:
        assert collector.post(kept) == 200
        kept_socket = kept.sock
        for n in range(1, 4):
            collector.panic(task)
            wait_until(lambda n=n: collector.panicked(task) == n, 20, "the panic to be counted")
            assert collector.post() == 200
            assert collector.post(kept) == 200 and kept.sock is kept_socket


@for_each("otlp_connection")
def test_a_connection_of_an_otlp_sender_is_closed_by_its_panic_only(task: str):
    with Panicking() as collector, socket.create_connection(tuple(str(collector.endpoints["otlp_http"]).split(":")), 60) as peer:
        peer.sendall(b"POST /v1/metrics HTTP/1.1\r\n")
        wait_until(lambda: collector.post() == 200, 20, "the receiver")
        collector.wait_panic(task)
        assert peer.recv(1) == b""
        assert collector.post() == 200


@for_each("http_listener", "http_connection", "core_jobs")
def test_the_page_is_served_after_a_panic(task: str):
    with Panicking() as collector, closing(http.client.HTTPConnection(collector.prometheus, timeout=60)) as kept:
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        collector.wait_panic(task)
        assert collector.health()[0] == 200
        assert collector.ledger()["balances"]
        assert "dichroic_build_info" in collector.metrics()


@for_each("local_listener", "local_connection", "stream_subscriber")
def test_subscribers_connect_after_a_panic(task: str):
    with Panicking() as collector:

        async def subscribe() -> None:
            async with dichroic.connect(collector.address) as client, client.subscribe("**"):
                assert len(collector.sources()["subscribers"]) == 1

        stream = http.client.HTTPConnection(collector.admin, timeout=60)
        stream.request("GET", "/v1/stream?match=**")
        answer = stream.getresponse()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(collector.socket))
            collector.wait_panic(task)
        answer.close()
        stream.close()
        wait_until(lambda: not collector.sources()["subscribers"], 20, "the first subscriber to leave")
        asyncio.run(subscribe())
        assert collector.health()[0] == 200


@for_each("relay_intake", "relay_session")
def test_a_relay_counts_on_after_a_panic(task: str):
    with Panicking() as collector, FixedNode(collector, 40, [5]):
        connected = lambda: [relay for relay in collector.sources()["relays"] if relay["connected"]]
        wait_until(connected, 30, "the relay")
        collector.wait_panic(task)
        wait_until(connected, 30, "the relay after the panic")
        requests = lambda: total(collector.metrics(), "http_server_request_duration_seconds_count")
        wait_until(lambda: requests() == 40, 30, "the requests of the node")
        assert collector.ledger()["balances"]


@for_each("attach_loop")
def test_a_node_is_attached_again_after_a_panic(task: str, tmp_path: Path):
    cookie = tmp_path / "cookie"
    cookie.write_text("x")
    cookie.chmod(0o400)
    nodes = [{"node": "absent@127.0.0.1", "cookie_file": str(cookie)}]
    with Panicking(config={"receivers": {"beam": {"attach": nodes}}}) as collector:
        collector.wait_line("not attached; retrying")
        collector.wait_panic(task)
        wait_until(lambda: collector.output().count("not attached; retrying") == 2, 30, "a further attempt")


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@for_each("telemetry", "telemetry_connection")
def test_own_traces_are_exported_after_a_panic(task: str):
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as sink:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        otlp = {"endpoint": f"http://127.0.0.1:{sink.server_port}", "protocol": "http"}
        with Panicking(config={"telemetry": {"otlp": otlp}}) as collector:
            sent = lambda: total(collector.metrics(), "dichroic_telemetry_sent_total", signal="traces")
            wait_until(lambda: sent() > 0, 20, "exports")
            collector.wait_panic(task)
            before = sent()
            wait_until(lambda: sent() > before, 20, "exports after the panic")
            assert collector.stop() == 0
        sink.shutdown()


@for_each("page_rendering")
def test_a_scrape_whose_rendering_panics_fails_and_the_next_one_gets_the_page(task: str):
    with Panicking() as collector:
        (collector.panics / task).touch()
        status, message = http_get(f"http://{collector.prometheus}/metrics")
        assert (status, message) == (503, "the collector is busy; retry later\n")
        wait_until(lambda: collector.panicked(task) == 1, 20, "the panic to be counted")
        assert total(collector.metrics(), "dichroic_pages_total", result="complete") >= 1


@for_each("log_writer")
def test_the_log_is_written_after_a_panic(task: str):
    with Panicking() as collector:
        (collector.panics / task).touch()
        collector.child.send_signal(signal.SIGHUP)
        collector.wait_line(f'"task":"{task}"')
        wait_until(lambda: collector.panicked(task) == 1, 20, "the panic to be counted")
        collector.child.send_signal(signal.SIGHUP)
        collector.wait_line("configuration reloaded")


@for_each("config_reader")
def test_a_reload_that_panics_keeps_the_configuration(task: str):
    with Panicking() as collector:
        (collector.panics / task).touch()
        collector.child.send_signal(signal.SIGHUP)
        collector.wait_line("invalid configuration; the previous one stays in effect")
        collector.child.send_signal(signal.SIGHUP)
        collector.wait_line("configuration reloaded")


@for_each("output")
def test_a_start_that_panics_has_an_exit_code(task: str):
    collector = Panicking()
    (collector.panics / task).touch()
    with pytest.raises(SystemError, match=f"ended with {PANICKED}:(.|\n)*the task {task} panicked"):
        collector.start()


def ends(collector: Panicking, task: str) -> None:
    wait_until(lambda: not collector.running(), 20, "the end of the process")
    assert collector.child.wait() == PANICKED
    lines = collector.output()
    assert f"dichroic: the task {task} panicked; this is a bug, please report it with the log" in lines
    assert f'"task":"{task}"' in lines and '"location":"' in lines


@for_each("main", "ingest")
def test_the_collector_stops_when_one_of_its_threads_panics(task: str):
    with Panicking() as collector:
        collector.panic(task)
        ends(collector, task)


@for_each("upkeep", "otlp_receiver")
def test_health_names_the_task_until_the_collector_has_stopped(task: str):
    with Panicking() as collector, socket.create_connection(tuple(str(collector.endpoints["otlp_http"]).split(":")), 60) as peer:
        head = "POST /v1/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9\r\n\r\n"
        peer.sendall(head.encode())
        requests = lambda: sum(request["in_flight"] for request in collector.ledger()["requests"])
        wait_until(lambda: requests() == 1, 20, "a request in flight")
        collector.panic(task)
        if task == "upkeep":
            # The request in flight delays the stop.
            wait_until(lambda: collector.health() == (503, f"the task {task} panicked; the collector stops\n"), 5, "503")
        ends(collector, task)


def test_every_kind_of_task_is_tested_and_its_rule_is_documented():
    with Collector() as collector:
        tasks = lambda: {labels["task"] for name, labels, _ in samples(collector.metrics()) if name == PANICS}
        wait_until(lambda: tasks() == set(RULES), 20, "the metric of every kind")
    assert set(RULES) == TESTED

"""Invalid input to the real collector: an error or a counted drop, no effect on others, bounded memory."""

import gzip
import http.server
import os
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from actors import push_durations, total, wait_total
from harness.collector import Collector
from harness.demo import Embedder
from harness.process import wait_until

HELLO_SUBSCRIBER = Path(__file__).resolve().parent.parent / "collector" / "wire" / "golden" / "hello-subscriber.bin"
HELLO_RELAY = HELLO_SUBSCRIBER.with_name("hello-relay.bin")


@pytest.fixture(scope="module")
def collector():
    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector:
        wait_until(lambda: "embedder_texts_total" in collector.metrics(), 20, "a scraped page")
        yield collector


def resident_mib(collector: Collector) -> float:
    status = Path(f"/proc/{collector.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def assert_unaffected(collector: Collector) -> None:
    before = collector.ledger()["ingest"]
    scraped = lambda accounts: sum(a["received"] for a in accounts if a["protocol"] == "prometheus")
    wait_until(lambda: scraped(collector.ledger()["ingest"]) > scraped(before), 10, "scraping to continue")
    assert collector.ledger()["balances"]


def send_local(collector: Collector, *parts: bytes) -> bytes:
    """Returns the collector's bytes on the local socket until it closes or sends nothing more."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(8)
        peer.connect(str(collector.socket))
        answer = b""
        try:
            for part in parts:
                peer.sendall(part)
            peer.shutdown(socket.SHUT_WR)
            while chunk := peer.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError):
            pass
        return answer


@pytest.mark.parametrize(
    ("what", "parts", "message"),
    [
        ("garbage", [os.urandom(64)], b""),
        ("zeros", [bytes(4096)], b""),
        ("another major version", [HELLO_RELAY.read_bytes()[:9] + b"\x63" + HELLO_RELAY.read_bytes()[10:]], b"version"),
        ("a length of 4 GiB", [b"\xff\xff\xff\xff\x01" + b"x" * 1000], b""),
        ("HTTP", [b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"], b"HTTP/1.1 400"),
        ("a relay that then sends an undefined series", [HELLO_RELAY.read_bytes(), bytes.fromhex("1c00000007") + bytes(28)], b""),
        ("a relay that then sends an invalid length", [HELLO_RELAY.read_bytes(), b"\xff\xff\xff\x7f\x07"], b""),
        ("a subscriber that then sends numbers", [HELLO_SUBSCRIBER.read_bytes(), bytes.fromhex("1c00000007") + bytes(28)], b""),
        ("a truncated HELLO", [HELLO_RELAY.read_bytes()[:100]], b""),
    ],
)  # fmt: skip
def test_an_invalid_peer_on_the_local_socket_is_rejected_and_affects_no_other(collector, what, parts, message):
    answer = send_local(collector, *parts)
    assert message in answer, (what, answer)
    assert_unaffected(collector)


def post(collector: Collector, path: str, body: bytes, **headers: str) -> int:
    request = urllib.request.Request(f"{collector.otlp_http}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("what", "body", "headers", "status"),
    [
        ("truncated protobuf", b"\x0a\xff\xff\x03abc", PROTOBUF, 400),
        ("truncated JSON", b'{"resourceMetrics":[{', JSON, 400),
        ("wrong type", b"x", {"Content-Type": "text/plain"}, 415),
        ("a gzip bomb", gzip.compress(bytes(200 << 20)), {**PROTOBUF, "Content-Encoding": "gzip"}, 413),
        ("not gzip", b"hello", {**PROTOBUF, "Content-Encoding": "gzip"}, 400),
        ("deep JSON", b"[" * 100_000, JSON, 400),
    ],
)  # fmt: skip
def test_an_invalid_otlp_request_is_answered_and_affects_no_other(collector, what, body, headers, status):
    assert post(collector, "/v1/metrics", body, **headers) == status, what
    assert_unaffected(collector)


def test_thousands_of_invalid_requests_leave_memory_flat(collector):
    bomb = gzip.compress(bytes(80 << 20))
    for _ in range(3):
        post(collector, "/v1/metrics", bomb, **PROTOBUF, **{"Content-Encoding": "gzip"})
    before = resident_mib(collector)
    for _ in range(20):
        post(collector, "/v1/metrics", bomb, **PROTOBUF, **{"Content-Encoding": "gzip"})
        send_local(collector, os.urandom(256))
    assert resident_mib(collector) < before + 80
    assert_unaffected(collector)


def test_a_label_explosion_stops_at_its_limit_and_is_counted():
    config = {"limits": {"series_per_metric": 1_000}}
    page = "".join(f'boom{{id="{i}"}} 1\n' for i in range(20_000))
    with PageServer(page.encode()) as target, Collector(scrape=[target.url], config=config) as collector:
        wait_until(lambda: total(collector.metrics(), "boom") == 1_000, 20, "a thousand series")
        drops = [a["dropped"].get("series_per_metric", 0) for a in collector.ledger()["ingest"]]
        assert max(drops) >= 19_000
        push_durations(collector, [5])
        wait_total(collector, 1, "http_server_request_duration_seconds_count")
        assert collector.ledger()["balances"]


class PageServer:
    """A target that serves one page, or fails in the given way."""

    def __init__(self, body: bytes = b"", status: int = 200, endless: bool = False, hang: bool = False):
        ended = self.ended = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if hang:
                    ended.wait(30)
                    return
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                try:
                    self.wfile.write(body)
                    while endless and not ended.is_set():
                        self.wfile.write(b"x_total 1\n" * 1_000)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("hangs", {"hang": True}),
        ("answers 500", {"status": 500, "body": b"sorry"}),
        ("streams without end", {"endless": True}),
        ("serves garbage", {"body": b'a{b="c} 1\n\x00\xff'}),
    ],
)
def test_a_faulty_target_is_down_with_a_reason_and_another_continues(what, options):
    with Embedder() as good, PageServer(**options) as bad, Collector(scrape=[good.url, bad.url]) as collector:

        def states():
            targets = {t["url"]: t for t in collector.sources()["targets"]}
            return targets if targets[bad.url]["last_error"] and targets[good.url]["health"] == "up" else None

        targets = wait_until(states, 20, f"the state of the target that {what}")
        assert targets[bad.url]["health"] == "down"
        assert total(collector.metrics(), "embedder_texts_total") > 0
        assert collector.ledger()["balances"]


def test_a_subscriber_that_stops_reading_slows_no_other_and_memory_is_bounded(collector):
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(collector.socket))
        idle.sendall(HELLO_SUBSCRIBER.read_bytes())
        before = resident_mib(collector)
        for _ in range(3):
            assert_unaffected(collector)
        assert resident_mib(collector) < before + 30

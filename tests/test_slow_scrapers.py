"""Scrapers that read slowly or not at all: they keep neither memory nor their place, and others get their pages."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness.collector import Collector
from harness.process import PATIENCE, wait_until

SERIES = 30_000
PADDING = "x" * 200
# 7 MiB: more than a window of a page and the buffers of two sockets.
PAGE = "".join(f'orders_total{{order="{PADDING}{at}"}} {at}\n' for at in range(SERIES)).encode()


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def collector_of(target: str, **limits: str) -> Collector:
    job = {
        "job_name": "large",
        "scrape_interval": "1h",
        "scrape_timeout": "60s",
        "static_configs": [{"targets": [target]}],
    }
    return Collector(config={"receivers": {"prometheus": {"scrape_configs": [job]}}, "limits": limits})


def request(collector: Collector, path: str = "/metrics", version: str = "1.1") -> socket.socket:
    host, port = collector.prometheus.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    connection.settimeout(PATIENCE)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
    return connection


def page(collector: Collector, path: str = "/metrics") -> str:
    connection = http.client.HTTPConnection(collector.prometheus, timeout=PATIENCE)
    connection.request("GET", path, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    response = connection.getresponse()
    assert response.status == 200
    return response.read().decode()


def whole_page(collector: Collector) -> str:
    def orders() -> str | None:
        text = page(collector)
        return text if text.count("\norders_total{") == SERIES else None

    return wait_until(orders, PATIENCE, "all series on the page")


def counted(collector: Collector, name: str, **labels: str) -> float:
    text = page(collector)
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith(name + "{") and all(w in line for w in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_scraper_that_reads_nothing_is_cut_off_and_counted_and_others_get_their_pages(target: str) -> None:
    with collector_of(target, write_stall="1s") as collector:
        whole_page(collector)
        stalled = [request(collector, version=version) for version in ("1.1", "1.0") * 4]
        begun = time.monotonic()
        assert page(collector).endswith("# EOF\n")
        assert time.monotonic() - begun < PATIENCE / 2
        cut = ("dichroic_responses_cut_total", {"listener": "prometheus", "reason": "stalled"})
        wait_until(lambda: counted(collector, cut[0], **cut[1]) > 0, PATIENCE, "a response that was cut off")
        assert re.search(r"response cut off.*limits\.write_stall", collector.output())
        used = ("dichroic_in_flight_bytes", {"part": "pages"})
        # The page with this number is itself one of at most 4 MiB.
        wait_until(lambda: counted(collector, used[0], **used[1]) < 5 << 20, PATIENCE, "memory that is returned")
        for reader in stalled:
            # An end without an error would look like a complete page to a client of HTTP/1.0.
            with pytest.raises(ConnectionResetError):
                while reader.recv(1 << 20):
                    pass
            reader.close()


def test_a_stream_that_pauses_is_not_cut_off(target: str) -> None:
    with collector_of(target, write_stall="1s") as collector:
        whole_page(collector)
        host, port = collector.admin.removeprefix("http://").rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as paused:
            paused.sendall(b"GET /v1/stream?kind=metric&match=** HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert paused.recv(1) == b"H"
            # A scraper that reads nothing, and came later, is cut off first.
            scraper = request(collector)
            cut = ("dichroic_responses_cut_total", {"listener": "prometheus", "reason": "stalled"})
            wait_until(lambda: counted(collector, cut[0], **cut[1]) > 0, PATIENCE, "a response that was cut off")
            scraper.close()
            read = 0
            while read < len(PAGE) // 2:
                piece = paused.recv(1 << 20)
                assert piece, f"the stream ended after {read} bytes"
                read += len(piece)
            assert counted(collector, cut[0], listener="admin") == 0


def test_a_scraper_that_reads_too_slowly_is_cut_off(target: str) -> None:
    with collector_of(target, response_time="2s") as collector:
        whole_page(collector)
        reader = request(collector)
        begun = time.monotonic()
        with pytest.raises(ConnectionResetError):
            while reader.recv(4 << 10):
                time.sleep(0.02)
        assert time.monotonic() - begun < PATIENCE
        assert page(collector).endswith("# EOF\n")

        def late() -> bool:
            responses = counted(collector, "dichroic_responses_cut_total", reason="late")
            return responses + counted(collector, "dichroic_pages_total", result="late") > 0

        wait_until(late, PATIENCE, "a response that was cut off")


def test_a_head_request_has_the_headers_of_the_page_and_renders_nothing(target: str) -> None:
    with Collector() as collector:
        connection = http.client.HTTPConnection(collector.prometheus, timeout=PATIENCE)
        connection.request("HEAD", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.read() == b""
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"


def test_a_scraper_that_reads_nothing_does_not_delay_the_stop_beyond_its_deadline(target: str) -> None:
    with collector_of(target, shutdown="1s") as collector:
        whole_page(collector)
        stalled = [request(collector) for _ in range(3)]
        # Its response has begun.
        assert all(reader.recv(1) == b"H" for reader in stalled)
        assert collector.stop() == 0
        for reader in stalled:
            reader.close()

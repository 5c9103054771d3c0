"""The collector's own traces and logs, sent to an OTLP endpoint: the data received, and the effect of a dead endpoint."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from actors import samples, total
from harness.collector import Collector, dichroic_bin
from harness.process import ROOT, free_port, http_get, wait_until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceServicer, add_LogsServiceServicer_to_server
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer, add_TraceServiceServicer_to_server
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

HELLO_RELAY = ROOT / "collector" / "wire" / "golden" / "hello-relay.bin"
SLOW = 0.3
BAD_CONFIG = 78
Attributes = dict[str, Any]


def plain(attributes: Any) -> Attributes:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Sink(TraceServiceServicer, LogsServiceServicer):
    """What arrived, over gRPC or HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.records: list[Any] = []
        self.resources: list[Attributes] = []

    def traces(self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.resources.append(plain(resource.resource.attributes))
            self.spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        return ExportTraceServiceResponse()

    def logs(self, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse:
        for resource in request.resource_logs:
            self.resources.append(plain(resource.resource.attributes))
            self.records.extend(record for scope in resource.scope_logs for record in scope.log_records)
        return ExportLogsServiceResponse()

    def named(self, name: str) -> list[Span]:
        return [span for span in list(self.spans) if span.name == name]

    def wait_span(self, name: str, **attributes: Any) -> Span:
        def found() -> Span | None:
            matching = (span for span in self.named(name) if attributes.items() <= plain(span.attributes).items())
            return next(matching, None)

        return wait_until(found, 20, f"a span {name} with {attributes}; there are {sorted({s.name for s in self.spans})}")

    def wait_record(self, body: str) -> Any:
        def found() -> Any:
            return next((record for record in list(self.records) if record.body.string_value == body), None)

        return wait_until(found, 20, f"a log record {body!r}; there are {[r.body.string_value for r in self.records]}")


@contextmanager
def grpc_sink() -> Iterator[tuple[Sink, str]]:
    sink = Sink()

    class Traces(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
            return sink.traces(request)

    class Logs(LogsServiceServicer):
        def Export(self, request: ExportLogsServiceRequest, context: object) -> ExportLogsServiceResponse:
            return sink.logs(request)

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Traces(), server)
    add_LogsServiceServicer_to_server(Logs(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield sink, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def http_sink() -> Iterator[tuple[Sink, str]]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/x-protobuf"
            if self.path == "/v1/traces":
                answer = sink.traces(ExportTraceServiceRequest.FromString(body)).SerializeToString()
            else:
                assert self.path == "/v1/logs"
                answer = sink.logs(ExportLogsServiceRequest.FromString(body)).SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield sink, url


class SlowTarget(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SLOW)
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"jobs_total 7\nworkers 2\n")

    def log_message(self, *_: object) -> None:
        pass


def exporting(endpoint: str, protocol: str) -> dict[str, Any]:
    return {"telemetry": {"interval": "1s", "otlp": {"endpoint": endpoint, "protocol": protocol}}}


def threads(collector: Collector) -> set[str]:
    return {path.joinpath("comm").read_text().strip() for path in Path(f"/proc/{collector.pid}/task").iterdir()}


def relay_session(collector: Collector) -> None:
    """A relay sends HELLO and disconnects without a GOODBYE."""
    with socket.socket(socket.AF_UNIX) as relay:
        relay.settimeout(10)
        relay.connect(str(collector.socket))
        relay.sendall(HELLO_RELAY.read_bytes())
        assert relay.recv(65536)


def dropped(collector: Collector) -> dict[tuple[str, str], float]:
    page = samples(collector.metrics())
    return {(labels["signal"], labels["reason"]): n for name, labels, n in page if name == "dichroic_telemetry_dropped_total"}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_slow_scrape_a_page_and_a_relay_session_arrive_as_spans_and_logs_belong_to_them(protocol: str):
    sinks = {"grpc": grpc_sink, "http": http_sink}
    with (
        sinks[protocol]() as (sink, endpoint),
        serving(SlowTarget) as target,
        Collector(scrape=[f"{target}/metrics"], config=exporting(endpoint, protocol)) as collector,
    ):
        assert "telemetry" in threads(collector)
        scrape = sink.wait_span("scrape", result="ok")
        assert scrape.kind == Span.SPAN_KIND_CLIENT
        assert scrape.end_time_unix_nano - scrape.start_time_unix_nano >= SLOW * 1e9
        attributes = plain(scrape.attributes)
        assert (attributes["job"], attributes["samples"], attributes["bytes"]) == ("workers", 2, 23), attributes
        assert attributes["url.full"] == f"{target}/metrics"
        for part in ("scrape.fetch", "scrape.ingest"):
            child = wait_until(
                lambda part=part: next((s for s in sink.named(part) if s.parent_span_id == scrape.span_id), None), 20, part
            )
            assert child.trace_id == scrape.trace_id

        http_get(f"http://{collector.prometheus}/metrics")
        page = sink.wait_span("page", result="ok")
        assert page.kind == Span.SPAN_KIND_SERVER and not page.parent_span_id
        assert plain(page.attributes)["bytes"] > 0

        relay_session(collector)
        session = sink.wait_span("relay_session")
        attributes = plain(session.attributes)
        assert attributes["node"] and attributes["os_pid"] and attributes["result"], attributes

        for body in ("relay connected", "target up"):
            record = sink.wait_record(body)
            assert record.severity_text == "INFO"
            assert record.trace_id and record.span_id
        connected = sink.wait_record("relay connected")
        assert (connected.trace_id, connected.span_id) == (session.trace_id, session.span_id)
        assert plain(connected.attributes)["node"] == attributes["node"]

        assert all(resource["service.name"] == "dichroic" for resource in sink.resources)
        assert all(resource["process.pid"] == collector.pid for resource in sink.resources)
        wait_until(lambda: total(collector.metrics(), "dichroic_telemetry_sent_total", signal="logs") > 0, 20, "sent logs")
        assert total(collector.metrics(), "dichroic_telemetry_sent_total", signal="traces") > 0
        assert sum(dropped(collector).values()) == 0
        assert collector.stop() == 0
        sink.wait_record("stopping: detaching nodes, then receivers, then exporters")


def test_a_failed_scrape_is_a_span_with_an_error():
    with (
        http_sink() as (sink, endpoint),
        Collector(scrape=[f"http://127.0.0.1:{free_port()}/metrics"], config=exporting(endpoint, "http")),
    ):
        scrape = sink.wait_span("scrape", result="error")
        assert scrape.status.code == Status.STATUS_CODE_ERROR
        assert "cannot connect" in scrape.status.message


def test_a_dead_endpoint_loses_counted_telemetry_and_nothing_else():
    with (
        serving(SlowTarget) as target,
        Collector(scrape=[f"{target}/metrics"], config=exporting(f"http://127.0.0.1:{free_port()}", "grpc")) as collector,
    ):
        wait_until(lambda: total(collector.metrics(), "jobs_total") == 7, 20, "the target's samples")

        def lost() -> bool:
            counts = dropped(collector)
            return counts[("traces", "export_failed")] > 0 and counts[("logs", "export_failed")] > 0

        wait_until(lost, 60, "telemetry to be counted as lost")
        assert collector.ledger()["balances"]
        assert total(collector.metrics(), "up") == 1
        assert total(collector.metrics(), "dichroic_telemetry_sent_total", signal="traces") == 0
        assert collector.output().count("telemetry.otlp.endpoint") == 1, "logged once"
        begun = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - begun < 7, "the shutdown deadline is 5 s"


def test_an_endpoint_that_accepts_and_never_responds_delays_nothing():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        limits = {"limits": {"shutdown": "1s"}}
        with (
            serving(SlowTarget) as target,
            Collector(scrape=[f"{target}/metrics"], config={**exporting(endpoint, "http"), **limits}) as collector,
        ):
            wait_until(lambda: total(collector.metrics(), "jobs_total") == 7, 20, "the target's samples")
            begun = time.monotonic()
            assert collector.stop() == 0
            assert time.monotonic() - begun < 3


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("listener", ["grpc", "http"])
def test_the_collectors_own_listener_is_refused_as_endpoint(tmp_path: Path, host: str, listener: str):
    port = free_port()
    config = tmp_path / "dichroic.yaml"
    listeners = {"grpc": False, "http": False, listener: f"127.0.0.1:{port}"}
    export = {"endpoint": f"http://{host}:{port}"}
    config.write_text(json.dumps({"receivers": {"otlp": listeners}, "telemetry": {"otlp": export}}))
    for command in ("run", "check"):
        arguments = [dichroic_bin(), command, "--config", str(config)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
        assert done.returncode == BAD_CONFIG, done
        assert "telemetry.otlp.endpoint" in done.stderr and f"receivers.otlp.{listener}" in done.stderr, done.stderr


def test_without_the_section_there_is_no_thread_and_no_metric():
    with Collector() as collector:
        assert "telemetry" not in threads(collector)
        wait_until(lambda: "dichroic_build_info" in collector.metrics(), 20, "own metrics")
        assert not re.search("dichroic_telemetry_", collector.metrics())

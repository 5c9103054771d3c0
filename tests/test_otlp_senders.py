"""Requests of real SDKs: every compression they offer, and the trace that a refused request leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request

import grpc
import pytest
import requests
from actors import wait_total
from grpc import Compression as GrpcCompression
from harness.collector import Collector
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as SpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


@pytest.fixture(scope="module")
def collector():
    with Collector() as started:
        yield started


def export(exporter: MetricExporter, service: str) -> None:
    """Records 40 calls in 40 series, so that the request is worth compressing, and exports once."""
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider(metric_readers=[reader], resource=Resource.create({"service.name": service}))
    calls = provider.get_meter("senders").create_counter("sender.calls")
    for route in range(40):
        calls.add(1, {"http.route": f"/a/route/of/the/service/{route}"})
    provider.shutdown()


def lines(collector: Collector, message: str) -> list[dict[str, str]]:
    """The log's lines with this message."""
    everything = [json.loads(line) for line in collector.output().splitlines() if line.startswith("{")]
    return [{**line, **line.get("fields", {})} for line in everything if message in (line.get("fields", line).get("message", ""),)]


@pytest.mark.parametrize("compression", list(HttpCompression))
def test_every_compression_of_the_http_exporter_is_accepted(collector, compression):
    service = f"http-{compression.value}"
    export(HttpExporter(f"{collector.otlp_http}/v1/metrics", compression=compression), service)
    wait_total(collector, 40, "sender_calls_total", job=service)


@pytest.mark.parametrize("compression", list(GrpcCompression))
def test_every_compression_of_the_grpc_exporter_is_accepted(collector, compression):
    service = f"grpc-{compression.name}"
    export(GrpcExporter(collector.otlp_grpc, insecure=True, compression=compression), service)
    wait_total(collector, 40, "sender_calls_total", job=service)


def test_a_refused_request_leaves_a_trace_with_its_sender():
    """The exporters report nothing: neither a refusal of the metrics nor the rejection of the spans reaches the program."""
    with Collector(config={"receivers": {"otlp": {"max_request": "1KiB"}}}) as collector:
        for _ in range(3):
            export(HttpExporter(f"{collector.otlp_http}/v1/metrics"), "large")
        spans = TracerProvider()
        spans.add_span_processor(SimpleSpanProcessor(SpanExporter(collector.otlp_grpc, insecure=True)))
        spans.get_tracer("senders").start_span("one").end()
        spans.shutdown()
        wait_total(collector, 3, "dichroic_requests_refused_total", transport="http", signal="metrics", reason="too_large")
        wait_total(collector, 1, "dichroic_requests_partial_total", transport="grpc", signal="traces")
        wait_total(collector, 1, "dichroic_ingest_dropped_total", signal="traces", reason="unsupported")
        ledger = collector.ledger()
        assert ledger["balances"]
        refused = {(row["transport"], row["signal"]): row["refused"] for row in ledger["requests"]}
        assert refused == {("http", "metrics"): {"too_large": 3}, ("grpc", "traces"): {}}
        assert "3 too_large" in collector.run_command("ledger", "--check").stdout
        (line,) = lines(collector, "request refused")
        assert (line["reason"], line["peer"]) == ("too_large", "127.0.0.1"), line
        assert "receivers.otlp.max_request" in line["error"] and "OTel-OTLP-Exporter-Python" in line["user_agent"], line
        (line,) = lines(collector, "request accepted in part")
        assert line["error"].startswith("1 of 1 spans were rejected; 1: this kind of data is not supported"), line
        assert line["peer"] == "127.0.0.1" and "OTel-OTLP-Exporter-Python" in line["user_agent"], line


def test_a_request_that_violates_its_protocol_leaves_a_trace(collector):
    def request(path: str, headers: dict[str, str], body: bytes | None = b"x", method: str = "POST") -> int:
        sent = urllib.request.Request(f"{collector.otlp_http}{path}", body, headers, method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(sent, timeout=60)
        return refused.value.code

    protobuf = {"Content-Type": "application/x-protobuf"}
    refusals = {
        "malformed": lambda: request("/v1/metrics", protobuf),
        "corrupt": lambda: request("/v1/metrics", {**protobuf, "Content-Encoding": "deflate"}),
        "encoding": lambda: request("/v1/metrics", {**protobuf, "Content-Encoding": "br"}),
        "content_type": lambda: request("/v1/metrics", {"Content-Type": "text/plain"}),
        "method": lambda: request("/v1/metrics", {}, None, "GET"),
        "path": lambda: request("/v2/metrics", protobuf),
    }
    codes = {reason: refuse() for reason, refuse in refusals.items()}
    assert codes == {"malformed": 400, "corrupt": 400, "encoding": 415, "content_type": 415, "method": 405, "path": 404}
    for reason in refusals:
        wait_total(collector, 1, "dichroic_requests_refused_total", transport="http", reason=reason)
    logged = [line for line in lines(collector, "request refused") if line["transport"] == "http"]
    assert {line["reason"]: line["user_agent"] for line in logged} == {
        reason: f"Python-urllib/{sys.version_info[0]}.{sys.version_info[1]}" for reason in refusals
    }
    assert len(logged) == len(refusals)


# Over the default of `receivers.otlp.max_request`.
TOO_LARGE_BYTES = 65 << 20


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_sender_of_a_body_that_is_too_large_gets_the_refusal(collector, framing):
    body = bytes(TOO_LARGE_BYTES)
    chunks = (body[at : at + (1 << 20)] for at in range(0, len(body), 1 << 20))
    reply = requests.post(
        f"{collector.otlp_http}/v1/metrics",
        data=body if framing == "length" else chunks,
        headers={"Content-Type": "application/x-protobuf"},
        timeout=60,
    )
    assert reply.status_code == 413
    assert b"receivers.otlp.max_request" in reply.content


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_gets_the_refusal_of_a_body_that_is_too_large(collector, expect):
    command = ["curl", "-sS", "-m", "60", "-H", "Content-Type: application/json", "-H", expect, "--data-binary", "@-"]
    url = f"{collector.otlp_http}/v1/metrics"
    reply = subprocess.run([*command, "-w", "%{http_code}", url], input=b" " * TOO_LARGE_BYTES, capture_output=True, check=True)
    assert b"receivers.otlp.max_request" in reply.stdout and reply.stdout.endswith(b"413"), reply.stdout


@pytest.mark.parametrize("signal", ["metrics", "logs"])
def test_a_grpc_message_that_cannot_be_read_leaves_a_trace(collector, signal):
    services = {"metrics": "metrics.v1.MetricsService", "logs": "logs.v1.LogsService"}
    with grpc.insecure_channel(collector.otlp_grpc.removeprefix("http://")) as channel:
        call = channel.unary_unary(f"/opentelemetry.proto.collector.{services[signal]}/Export")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\x0a\xff\xff\x03abc", timeout=60)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    wait_total(collector, 1, "dichroic_requests_refused_total", transport="grpc", signal=signal, reason="malformed")
    assert "grpc-python" in collector.output()

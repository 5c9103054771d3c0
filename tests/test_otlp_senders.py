"""Requests of real SDKs: every compression they offer, and the trace that a refused request leaves."""

from __future__ import annotations

import pytest
from actors import wait_total
from grpc import Compression as GrpcCompression
from harness.collector import Collector
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource


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

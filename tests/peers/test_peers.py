"""Numbers that pass through programs of other projects, against what was emitted."""

import math

import pytest
from actors import BOUNDS, push_durations, samples, total, wait_total
from harness.collector import Collector
from harness.process import wait_until
from peers import OpenTelemetryCollector, Prometheus3, collector_config, emit_with_go, emit_with_javascript, free_port
from test_exponential import PAGE, bounds_of, check_quantiles, record, sources
from test_truth import PYTHON_MS, quantile_of_buckets

MS = [3, 8, 20, 40, 60, 90, 200, 400, 600, 900, 2000, 12000]
COUNT = "http_server_request_duration_seconds_count"
SUM = "http_server_request_duration_seconds_sum"


def check_emitted(collector: Collector, job: str) -> None:
    """The page shows exactly what was recorded under this job."""
    wait_total(collector, len(MS), COUNT, job=job)
    page = collector.metrics()
    assert math.isclose(total(page, SUM, job=job), sum(MS) / 1000, rel_tol=1e-12)
    assert total(page, "peer_calls_total", job=job) == len(MS)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_the_go_sdk_records_is_on_the_page(protocol):
    with Collector() as collector:
        url = collector.otlp_grpc if protocol == "grpc" else collector.otlp_http
        emit_with_go(protocol, url.removeprefix("http://"), MS)
        check_emitted(collector, f"go-{protocol}")


@pytest.mark.parametrize("protocol", ["grpc", "proto", "json"])
def test_what_the_javascript_sdk_records_is_on_the_page(protocol):
    with Collector() as collector:
        emit_with_javascript(protocol, collector.otlp_grpc if protocol == "grpc" else collector.otlp_http, MS)
        check_emitted(collector, f"node-{protocol}")


def test_prometheus_3_computes_the_true_quantiles_of_a_page_that_it_scraped():
    with Collector() as collector:
        push_durations(collector, PYTHON_MS * 100)
        wait_total(collector, 1_100, COUNT, runtime="python")
        with Prometheus3(collector.prometheus) as prometheus:
            bucket = "http_server_request_duration_seconds_bucket"
            wait_until(lambda: prometheus.query(bucket), 30, "Prometheus to have scraped the collector")
            truth = [ms / 1000 for ms in PYTHON_MS * 100]
            for q in (0.05, 0.5, 0.95, 0.99):
                answer = prometheus.scalar(f"histogram_quantile({q}, sum by (le) ({bucket}))")
                assert math.isclose(answer, quantile_of_buckets(q, truth), rel_tol=1e-9), q
            assert prometheus.api("status/buildinfo")["version"].startswith("3.")


def test_prometheus_3_computes_the_true_quantiles_across_explicit_and_exponential_histograms():
    everything = sources()
    with Collector() as collector:
        for service, what in everything.items():
            record(collector, service, *what)
            wait_total(collector, len(what[0]), f"{PAGE}_count", job=service)
        bounds = bounds_of(collector.metrics())["explicit-s"]
        with Prometheus3(collector.prometheus, interval="5s") as prometheus:
            check_quantiles(prometheus, [value for values, *_ in everything.values() for value in values], bounds)


def test_prometheus_3_stores_every_sample_of_the_page():
    with Collector() as collector:
        push_durations(collector, MS)
        wait_total(collector, len(MS), COUNT)
        with Prometheus3(collector.prometheus) as prometheus:
            wait_until(lambda: prometheus.query(COUNT), 30, "Prometheus to have scraped the collector")
            on_page = {name for name, _, _ in samples(collector.metrics())}
            stored = {row["metric"]["__name__"] for row in prometheus.query('{job!="",__name__=~".+"}')}
            missing = on_page - stored
            assert not missing, sorted(missing)
            assert prometheus.scalar('up{job="dichroic"}') == 1


COMPRESSIONS = [
    *(("otlp_grpc", name) for name in ("none", "gzip", "zstd", "snappy")),
    *(("otlp_http", name) for name in ("none", "gzip", "zstd", "snappy", "x-snappy-framed", "zlib", "deflate")),
]


@pytest.mark.parametrize(("protocol", "compression"), COMPRESSIONS)
def test_an_opentelemetry_collector_forwards_otlp_without_loss(protocol, compression):
    port = free_port()
    with Collector() as collector:
        endpoint = collector.otlp_grpc if protocol == "otlp_grpc" else collector.otlp_http
        exporter = {"endpoint": endpoint, "compression": compression, "tls": {"insecure": True}}
        config = collector_config(
            receivers={"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            exporters={protocol: exporter},
        )
        with OpenTelemetryCollector(config, f"http://127.0.0.1:{port}/"):
            emit_with_javascript("proto", f"http://127.0.0.1:{port}", MS)
            check_emitted(collector, "node-proto")


def test_an_opentelemetry_collector_scrapes_the_page_and_shows_the_same_numbers():
    port = free_port()
    with Collector() as collector:
        push_durations(collector, MS)
        wait_total(collector, len(MS), COUNT)
        scrape = {
            "job_name": "dichroic",
            "scrape_interval": "1s",
            "honor_labels": True,
            "static_configs": [{"targets": [collector.prometheus]}],
        }
        config = collector_config(
            receivers={"prometheus": {"config": {"scrape_configs": [scrape]}}},
            exporters={"prometheus": {"endpoint": f"127.0.0.1:{port}", "resource_to_telemetry_conversion": {"enabled": True}}},
        )
        with OpenTelemetryCollector(config, f"http://127.0.0.1:{port}/metrics") as peer:

            def forwarded() -> list[float]:
                from harness.process import http_get

                page = http_get(peer.health)[1]
                return [value for name, _, value in samples(page) if name == COUNT]

            assert wait_until(forwarded, 30, "the histogram on the collector's page") == [len(MS)]


def test_bounds_of_the_sdks_are_the_bounds_of_the_page():
    with Collector() as collector:
        emit_with_go("http", collector.otlp_http.removeprefix("http://"), MS)
        wait_total(collector, len(MS), COUNT)
        bucket = "http_server_request_duration_seconds_bucket"
        bounds = {labels["le"] for name, labels, _ in samples(collector.metrics()) if name == bucket}
        assert {float(le) for le in bounds} == {*BOUNDS, math.inf}

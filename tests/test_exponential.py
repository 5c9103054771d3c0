"""Exponential histograms of real SDKs share a family, one list of bounds and quantiles with explicit ones, whatever their unit."""

from __future__ import annotations

import bisect
import math
import random
import urllib.request

import pytest
from actors import samples, wait_total
from harness.collector import Collector
from harness.process import wait_until
from harness.prometheus import Prometheus
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
NAME = "http.server.request.duration"
PAGE = "http_server_request_duration_seconds"
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


class Program:
    """A program with one histogram, which it exports when it is asked to."""

    def __init__(self, collector: Collector, service: str, unit: str, aggregation: Aggregation, name: str):
        exporter = OTLPMetricExporter(f"{collector.otlp_http}/v1/metrics", preferred_aggregation={Histogram: aggregation})
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=600_000)
        self.provider = MeterProvider(metric_readers=[reader], resource=Resource.create({"service.name": service}))
        self.histogram = self.provider.get_meter("t").create_histogram(name, unit)
        self.values: list[float] = []

    def record(self, values: list[float]) -> None:
        for value in values:
            self.histogram.record(value)
        self.values += values
        self.provider.force_flush()


def record(collector: Collector, service: str, seconds: list[float], unit: str, aggregation: Aggregation, name: str = NAME) -> None:
    exporter = OTLPMetricExporter(f"{collector.otlp_http}/v1/metrics", preferred_aggregation={Histogram: aggregation})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=600_000)
    provider = MeterProvider(metric_readers=[reader], resource=Resource.create({"service.name": service}))
    histogram = provider.get_meter("t").create_histogram(name, unit)
    per_second = {"s": 1, "ms": 1e3, "us": 1e6}[unit]
    for value in seconds:
        histogram.record(value * per_second, {"http.route": "/x"})
    provider.shutdown()


def bounds_of(page: str, metric: str = PAGE) -> dict[str, list[float]]:
    """The bounds of each job."""
    bounds: dict[str, list[float]] = {}
    for name, labels, _ in samples(page):
        if name == f"{metric}_bucket":
            bounds.setdefault(labels["job"], []).append(float(labels["le"]))
    return bounds


def bucket_of(bounds: list[float], value: float) -> int:
    return bisect.bisect_left(bounds, value)


def sources() -> dict[str, tuple[list[float], str, Aggregation]]:
    """Latencies of three services: much faster and much slower than the bounds of the conventions."""
    rng = random.Random(7)

    def values(n: int, median: float, sigma: float) -> list[float]:
        return [rng.lognormvariate(math.log(median), sigma) for _ in range(n)]

    return {
        "exponential-ms": (values(2_000, 0.02, 1.0), "ms", ExponentialBucketHistogramAggregation()),
        "exponential-s": (values(500, 20.0, 0.5), "s", ExponentialBucketHistogramAggregation()),
        "exponential-us": (values(500, 0.0008, 0.5), "us", ExponentialBucketHistogramAggregation()),
        "explicit-s": (values(1_000, 0.1, 1.0), "s", ExplicitBucketHistogramAggregation(BOUNDS)),
    }


def check_quantiles(prometheus: Prometheus, everything: list[float], bounds: list[float]) -> None:
    """`histogram_quantile` over all sources is in the bucket of the true quantile, or at its edge."""
    prometheus.wait_query(f"{PAGE}_bucket")
    values = sorted(everything)
    for q in QUANTILES:
        truth = values[min(len(values) - 1, math.ceil(q * len(values)) - 1)]
        answer = prometheus.scalar(f"histogram_quantile({q}, sum by (le) ({PAGE}_bucket))")
        assert abs(bucket_of(bounds, answer) - bucket_of(bounds, truth)) <= 1, (q, answer, truth)


@pytest.fixture(scope="module", params=["explicit first", "explicit last"])
def collector(request):
    everything = sources()
    order = sorted(everything) if request.param == "explicit first" else sorted(everything, reverse=True)
    with Collector() as started:
        for service in order:
            record(started, service, *everything[service])
            wait_total(started, len(everything[service][0]), f"{PAGE}_count", job=service)
        yield started


def test_a_family_has_one_list_of_bounds_in_every_format(collector):
    expected = bounds_of(collector.metrics())
    assert set(expected) == set(sources())
    (bounds,) = {tuple(bounds) for bounds in expected.values()}
    assert set(BOUNDS) < set(bounds) and bounds[-1] == math.inf
    at = bounds.index(BOUNDS[0])
    assert list(bounds[at : at + len(BOUNDS)]) == BOUNDS, "bounds are added at the ends only"
    for accept in ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"):
        request = urllib.request.Request(f"http://{collector.prometheus}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            page = answer.read().decode()
        for line in page.splitlines():
            assert not line.startswith(f"{PAGE}_bucket") or float(line.split('le="')[1].split('"')[0]) in bounds


def test_every_value_lies_within_the_bounds(collector):
    page = samples(collector.metrics())
    for service, (values, _, aggregation) in sources().items():
        buckets = [(labels["le"], n) for name, labels, n in page if name == f"{PAGE}_bucket" and labels["job"] == service]
        assert buckets[-1] == ("+Inf", len(values))
        if isinstance(aggregation, ExponentialBucketHistogramAggregation):
            assert buckets[0][1] == 0 and buckets[-2][1] == len(values), (service, buckets)
        counts = [n for _, n in buckets]
        assert counts == sorted(counts)
        (total,) = [n for name, labels, n in page if name == f"{PAGE}_sum" and labels["job"] == service]
        assert math.isclose(total, sum(values), rel_tol=1e-9)


def test_quantiles_across_explicit_and_exponential_histograms_are_right_within_a_bucket(collector):
    everything = [value for values, *_ in sources().values() for value in values]
    bounds = bounds_of(collector.metrics())["explicit-s"]
    with Prometheus(collector.prometheus, interval="5s") as prometheus:
        check_quantiles(prometheus, everything, bounds)


def test_lint_says_that_bounds_were_added(collector):
    findings = collector.api("/api/v1/lint")["findings"]
    added = {finding["source"] for finding in findings if finding["check"] == "added_bounds" and finding["subject"] == NAME}
    assert len(added) == 3, findings
    assert not [finding for finding in findings if finding["check"] == "mixed_bounds"]


def test_a_list_only_grows_at_its_ends():
    with Collector() as collector:
        seen: list[float] = []
        for step, values in enumerate([[0.2], [0.2, 300.0], [0.00001, 0.2], [0.1]]):
            name = f"job-{step}"
            record(collector, name, values, "ms", ExponentialBucketHistogramAggregation(), "work.time")
            wait_total(collector, len(values), "work_time_seconds_count", job=name)
            lists = bounds_of(collector.metrics(), "work_time_seconds")
            (bounds,) = {tuple(bounds) for bounds in lists.values()}
            inner = [bound for bound in bounds if not seen or seen[0] <= bound <= seen[-2]]
            assert not seen or inner == seen[:-1], "no bound in between"
            seen = list(bounds)
        assert seen[0] <= 0.00001 and seen[-2] >= 300


def counts_of(page: str, metric: str, job: str) -> dict[float, float]:
    return {float(labels["le"]): n for name, labels, n in samples(page) if name == f"{metric}_bucket" and labels["job"] == job}


def test_no_bucket_is_reset_when_an_sdk_lowers_its_resolution():
    """Most values lie around a bound, so that the coarser bucket around it would hide half of them."""
    rng = random.Random(1)
    with Collector() as collector, Prometheus(collector.prometheus, interval="1s") as prometheus:
        program = Program(collector, "down", "s", ExponentialBucketHistogramAggregation(), "down.time")
        for step in range(8):
            outliers = {2: [0.0005], 4: [1e-6, 40.0], 6: [2_000.0]}.get(step, [])
            program.record([rng.lognormvariate(math.log(0.009), 0.15) for _ in range(200)] + outliers)
            expected = len(program.values)
            wait_until(
                lambda n=expected: prometheus.query(f"down_time_seconds_count == {n}"), 60, f"{expected} values in Prometheus"
            )
            counts = counts_of(collector.metrics(), "down_time_seconds", "down")
            assert list(counts.values()) == sorted(counts.values())
            for bound, count in counts.items():
                assert count <= sum(value <= bound for value in program.values), bound
        assert prometheus.query("resets(down_time_seconds_bucket[10m]) > 0") == []
        # The values of the first half are known although the scale is coarse now.
        exact = sum(value <= 0.01 for value in program.values)
        assert counts[0.01] > 0.3 * exact


def test_an_explicit_histogram_that_comes_after_a_page_shares_the_bounds():
    with Collector() as collector, Prometheus(collector.prometheus, interval="1s") as prometheus:
        record(collector, "first", [0.02] * 10, "s", ExponentialBucketHistogramAggregation(), "late.time")
        wait_total(collector, 10, "late_time_seconds_count", job="first")
        seen = bounds_of(collector.metrics(), "late_time_seconds")["first"]
        values = [0.05] * 5 + [0.9] * 10
        record(collector, "second", values, "s", ExplicitBucketHistogramAggregation([0.01, 0.1, 0.3, 1, 10]), "late.time")
        wait_total(collector, len(values), "late_time_seconds_count", job="second")
        lists = bounds_of(collector.metrics(), "late_time_seconds")
        assert lists["first"] == lists["second"] == sorted({*seen, 0.01, 0.1, 0.3, 1, 10})
        counts = counts_of(collector.metrics(), "late_time_seconds", "second")
        assert [counts[bound] for bound in (0.01, 0.1, 0.3, 1, 10, math.inf)] == [0, 5, 5, 15, 15, 15]
        assert counts[0.75] == 5, "that of its next lower bound"
        prometheus.wait_query('late_time_seconds_bucket{job="second"}')
        for quantile, low, high in ((0.3, 0.01, 0.025), (0.5, 0.025, 0.1), (0.9, 0.3, 1)):
            assert low <= prometheus.scalar(f"histogram_quantile({quantile}, sum by (le) (late_time_seconds_bucket))") <= high
        findings = collector.api("/api/v1/lint")["findings"]
        assert not [finding for finding in findings if finding["check"] == "mixed_bounds"]


def test_a_wild_value_leaves_room_for_the_others():
    with Collector() as collector:
        explicit = ExplicitBucketHistogramAggregation([0.005, 0.01, 0.1])
        record(collector, "fast", [0.001] * 5, "s", explicit, "wild.time")
        record(collector, "wrong", [0.02] * 100 + [1.7e18], "s", ExponentialBucketHistogramAggregation(), "wild.time")
        wait_total(collector, 101, "wild_time_seconds_count", job="wrong")
        wrong = counts_of(collector.metrics(), "wild_time_seconds", "wrong")
        assert max(bound for bound in wrong if bound < math.inf) <= 10_000
        assert list(wrong.values())[-2:] == [100, 101]
        findings = [finding for finding in collector.api("/api/v1/lint")["findings"] if finding["check"] == "outside_bounds"]
        assert [finding["source"].split()[0] for finding in findings] == ["wrong"]
        assert "1 of 101 values" in findings[0]["message"]
        micros = [2e-6] * 90 + [4e-3] * 10
        record(collector, "micros", micros, "s", ExponentialBucketHistogramAggregation(), "wild.time")
        wait_total(collector, len(micros), "wild_time_seconds_count", job="micros")
        counts = counts_of(collector.metrics(), "wild_time_seconds", "micros")
        assert counts[1e-6] == 0 and counts[2.5e-6] == 90 and counts[0.005] == 100

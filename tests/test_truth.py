"""Metrics of BEAM and Python together, queried in a real Prometheus and compared to what the programs did."""

import bisect
import math

from actors import BOUNDS, FixedNode, push_durations, total, wait_total
from harness.collector import Collector
from harness.prometheus import Prometheus

# Also the timeout of a scrape: on a busy machine one may take more than a second.
INTERVAL = "5s"
BEAM_MS = [3, 8, 20, 40, 60, 90, 200, 400, 600, 900, 2000]
PYTHON_MS = [4, 15, 15, 30, 70, 120, 300, 800, 1500, 6000, 12000]


def quantile_of_buckets(q: float, seconds: list[float]) -> float:
    """The expected `histogram_quantile`: linear within a bucket, the last finite bound in the open one."""
    counts = [0] * (len(BOUNDS) + 1)
    for value in seconds:
        counts[bisect.bisect_left(BOUNDS, value)] += 1
    rank, below = q * len(seconds), 0
    for i, count in enumerate(counts):
        if below + count >= rank:
            if i == len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[i - 1] if i else 0.0
            return low + (BOUNDS[i] - low) * (rank - below) / count
        below += count
    raise AssertionError("unreachable")


def test_quantiles_across_beam_and_python_are_exact():
    requests = 1_100
    with Collector() as collector, FixedNode(collector, requests, BEAM_MS):
        push_durations(collector, PYTHON_MS * 100)
        wait_total(collector, requests, "http_server_request_duration_seconds_count", runtime="beam")
        wait_total(collector, 1_100, "http_server_request_duration_seconds_count", runtime="python")
        page = collector.metrics()
        milliseconds = sum(BEAM_MS) * 100
        beam_sum = total(page, "http_server_request_duration_seconds_sum", runtime="beam")
        assert math.isclose(beam_sum, milliseconds / 1000, rel_tol=1e-12)
        truth = [ms / 1000 for ms in BEAM_MS * 100 + PYTHON_MS * 100]
        with Prometheus(collector.prometheus, interval=INTERVAL) as prometheus:
            bucket = "http_server_request_duration_seconds_bucket"
            prometheus.wait_query(bucket)
            for q in (0.05, 0.25, 0.5, 0.9, 0.95, 0.99):
                answer = prometheus.scalar(f"histogram_quantile({q}, sum by (le) ({bucket}))")
                assert math.isclose(answer, quantile_of_buckets(q, truth), rel_tol=1e-9), q
            runtimes = {r["metric"]["runtime"] for r in prometheus.query(f"sum by (runtime) ({bucket})")}
            assert runtimes == {"beam", "python"}


def test_each_source_keeps_its_job_and_instance_with_honor_labels():
    with Collector() as collector, FixedNode(collector, 10, [5]):
        push_durations(collector, [5])
        wait_total(collector, 10, "http_server_request_duration_seconds_count", job="fixed", instance="fixed@127.0.0.1")
        wait_total(collector, 1, "http_server_request_duration_seconds_count", job="fixed-python", instance="1")
        with Prometheus(collector.prometheus, interval=INTERVAL) as prometheus:
            query = 'http_server_request_duration_seconds_count{job="fixed",http_route="/fixed"}'
            rows = prometheus.wait_query(query)
            assert rows[0]["metric"]["instance"] == "fixed@127.0.0.1"
            assert prometheus.query('target_info{job="fixed",runtime="beam"}')

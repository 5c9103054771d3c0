"""The wall clock is set by an hour: what waits for a time to pass is not affected."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from actors import total
from harness.collector import Collector
from harness.demo import Embedder
from harness.process import http_get, wait_until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

# Of the Debian package `libfaketime`, which `scripts/setup.sh test` installs.
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), Path("libfaketime.so.1"))
HOUR = 3600


class Shifted(Collector):
    """A collector whose wall clock is ours plus an offset. Its monotonic clock is the machine's."""

    def __init__(self, **more):
        super().__init__(**more)
        self.offset_file = self.folder / "offset"
        self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        partial = self.offset_file.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}\n")
        partial.rename(self.offset_file)
        self.offset = seconds

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset_file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def now_ns(self) -> int:
        return time.time_ns() + self.offset * 10**9

    def post(self, path: str, message) -> None:
        connection = http.client.HTTPConnection(str(self.endpoints["otlp_http"]), timeout=60)
        connection.request("POST", path, message.SerializeToString(), {"content-type": "application/x-protobuf"})
        assert connection.getresponse().status == 200

    def add(self, n: int) -> None:
        """Adds to a delta counter."""
        request = ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "adding"
        metric = resource.scope_metrics.add().metrics.add(name="jobs", unit="1")
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.sum.is_monotonic = True
        now = self.now_ns()
        metric.sum.data_points.add(as_int=n, start_time_unix_nano=now - 10**6, time_unix_nano=now)
        self.post("/v1/metrics", request)

    def log(self, text: str) -> None:
        request = ExportLogsServiceRequest()
        resource = request.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "logging"
        resource.scope_logs.add().log_records.add(time_unix_nano=self.now_ns()).body.string_value = text
        self.post("/v1/logs", request)

    def target(self) -> dict:
        return self.sources()["targets"][0]


@pytest.fixture
def embedder() -> Iterator[Embedder]:
    with Embedder() as embedder:
        yield embedder


def after_a_step(collector: Shifted, step: int) -> None:
    """Sets the clock, and returns when the collector has seen it and has swept its series."""
    collector.set_clock(step)
    wall = lambda: collector.target()["last_scrape"]
    wait_until(lambda: abs(wall() - collector.now_ns()) < 60 * 10**9, 20, "a scrape after the step")
    scrapes = collector.target()["scrapes"]
    wait_until(lambda: collector.target()["scrapes"] >= scrapes + 3, 20, "further scrapes")


def shifting(check: Callable) -> Callable:
    return pytest.mark.parametrize("step", [HOUR + 60, -HOUR], ids=["forward", "back"])(check)


@shifting
def test_an_active_delta_counter_continues(step: int, embedder: Embedder):
    with Shifted(scrape=[embedder.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target")
        collector.add(5)
        wait_until(lambda: total(collector.metrics(), "jobs_total") == 5, 20, "the first delta")
        after_a_step(collector, step)
        assert total(collector.metrics(), "jobs_total") == 5
        collector.add(3)
        wait_until(lambda: total(collector.metrics(), "jobs_total") == 8, 20, "the second delta")
        assert total(collector.metrics(), "dichroic_warnings_total", kind="expired_deltas") == 0
        assert collector.ledger()["balances"]


@shifting
def test_scraped_values_continue(step: int, embedder: Embedder):
    with Shifted(scrape=[embedder.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target")
        after_a_step(collector, step)
        dropped = lambda: total(collector.metrics(), "dichroic_ingest_dropped_total", protocol="prometheus")
        assert dropped() == 0
        cpu = lambda: total(collector.metrics(), "process_cpu_seconds_total", job="workers")
        before = cpu()
        http_get(embedder.url)
        wait_until(lambda: cpu() > before, 20, "a newer value")
        embedder.kill()
        wait_until(lambda: total(collector.metrics(), "up") == 0, 20, "the target to be down")
        assert dropped() == 0


@shifting
def test_the_replay_keeps_the_rows_of_the_last_minute(step: int, embedder: Embedder):
    with Shifted(scrape=[embedder.url], config={"exporters": {"stream": {"retain_logs": True}}}) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target")
        collector.log("before")
        after_a_step(collector, step)
        collector.log("after")
        tap = collector.run_command("tap", "**", "--kind", "log", "--replay", "60s", "--limit", "2", "--format", "json", timeout=60)
        assert "before" in tap.stdout and "after" in tap.stdout, tap

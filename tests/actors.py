"""Actors of some tests: a node that emits a given set of requests, and a Python program that pushes exact numbers."""

from __future__ import annotations

from collections.abc import Sequence

from harness.collector import Collector
from harness.erlang import compiled, erlang_paths
from harness.process import ROOT, Process, wait_until
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


class RelayNode(Process):
    """A node with the relay that runs `tests/<module>.erl`, without a listener for distribution and without epmd."""

    module: str

    def __init__(self, collector: Collector, service: str | None = None):
        super().__init__()
        self.collector = collector
        self.service = service or self.name

    @property
    def node(self) -> str:
        return f"{self.name}@127.0.0.1"

    def main(self) -> str:
        """The call that starts the module."""
        return f"{self.module}:main()"

    def vm_arguments(self) -> Sequence[str]:
        return ["-dist_listen", "false"]

    def argv(self) -> Sequence[str]:
        started = [f"{{ok, _}} = application:ensure_all_started({application}), " for application in ("telemetry", "dichroic")]
        ebins = [*erlang_paths(), compiled(self.module, [ROOT / "tests" / f"{self.module}.erl"])]
        paths = [part for ebin in ebins for part in ("-pa", str(ebin))]
        name = ["-name", self.node, "-setcookie", "x", "-start_epmd", "false", *self.vm_arguments()]
        return ["erl", "-noshell", *name, *paths, "-eval", f"{''.join(started)}{self.main()}."]

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "DICHROIC_SOCKET": str(self.collector.socket),
            "OTEL_SERVICE_NAME": self.service,
            "ERL_CRASH_DUMP_SECONDS": "0",
        }


class FixedNode(RelayNode):
    """`tests/fixed.erl`: waits until the relay is connected, emits, and runs until it is stopped."""

    name = module = "fixed"

    def __init__(self, collector: Collector, requests: int, milliseconds: Sequence[int]):
        super().__init__(collector)
        self.requests = requests
        self.milliseconds = list(milliseconds)

    def main(self) -> str:
        return f"fixed:main({self.requests}, {self.milliseconds})"

    def wait_ready(self) -> None:
        self.wait_line(r"^emitted ", 30)


def push_durations(collector: Collector, milliseconds: Sequence[int], service: str = "fixed-python") -> None:
    """Records each duration once as http.server.request.duration and exports with the OpenTelemetry SDK."""
    resource = Resource.create({"service.name": service, "service.instance.id": "1"})
    exporter = OTLPMetricExporter(f"{collector.otlp_http}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider(metric_readers=[reader], resource=resource)
    histogram = provider.get_meter("fixed").create_histogram(
        "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=BOUNDS
    )
    for ms in milliseconds:
        histogram.record(ms / 1000, {"http.route": "/fixed", "http.request.method": "GET"})
    provider.shutdown()


def samples(page: str) -> list[tuple[str, dict[str, str], float]]:
    """Returns every sample of a text page, parsed by the official Python parser."""
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]


def total(page: str, name: str, **labels: str) -> float:
    """Returns the sum of the samples with this name and these labels."""
    wanted = labels.items()
    return sum(value for n, have, value in samples(page) if n == name and wanted <= have.items())


def wait_total(collector: Collector, expected: float, name: str, seconds: float = 20, **labels: str) -> None:
    wait_until(
        lambda: total(collector.metrics(), name, **labels) == expected or None,
        seconds,
        f"{name}{labels} to be {expected}; it is {total(collector.metrics(), name, **labels)}",
    )

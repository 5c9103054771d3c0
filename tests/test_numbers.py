"""What came in over OTLP is on the page, or the ledger says why not. Judges: Prometheus, promtool and the official parsers."""

from __future__ import annotations

import itertools
import json
import math
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from harness.collector import Collector
from harness.process import wait_until
from harness.prometheus import Prometheus, promtool
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
SECOND = 1_000_000_000
EPOCH = time.time_ns()

Attributes = Mapping[str, object]


def value_of(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": str(value)}


def attributes_of(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": key, "value": value_of(value)} for key, value in attributes.items()]


def number(value: float, attributes: Attributes | None = None, start: int = 0, at: int = 0) -> dict[str, Any]:
    """A point, with times in seconds from now."""
    now = time.time_ns()
    return {
        "attributes": attributes_of(attributes or {}),
        "startTimeUnixNano": str(now + (start or -60) * SECOND),
        "timeUnixNano": str(now + at * SECOND),
        "asDouble": value if math.isfinite(value) else str(value),
    }


def counter(name: str, points: Sequence[dict[str, Any]], delta: bool = False, unit: str = "") -> dict[str, Any]:
    sum_ = {"aggregationTemporality": 1 if delta else 2, "isMonotonic": True, "dataPoints": points}
    return {"name": name, "unit": unit, "sum": sum_}


def gauge(name: str, points: Sequence[dict[str, Any]], unit: str = "") -> dict[str, Any]:
    return {"name": name, "unit": unit, "gauge": {"dataPoints": points}}


def histogram(name: str, count: int, attributes: Attributes | None = None, sum_: float = 1.0) -> dict[str, Any]:
    point = number(0, attributes)
    del point["asDouble"]
    point |= {"count": str(count), "sum": sum_, "explicitBounds": [1.0], "bucketCounts": [str(count), "0"]}
    return {"name": name, "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}


def push(collector: Collector, service: str, metrics: Sequence[dict[str, Any]], scope: str = "", **resource: object) -> None:
    attributes = {"service.name": service, **{key.replace("_", "."): value for key, value in resource.items()}}
    body = {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes_of(attributes)},
                "scopeMetrics": [{"scope": {"name": scope}, "metrics": list(metrics)}],
            }
        ]
    }
    request = urllib.request.Request(
        f"{collector.otlp_http}/v1/metrics", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response) == {}


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(collector: Collector, job: str) -> Samples:
    """The samples of one job, which both formats show equally."""
    found: list[Samples] = []
    for accept, parse in (("text/plain;version=0.0.4", text_format), (OPENMETRICS, openmetrics)):
        samples: Samples = {}
        for family in parse(collector.metrics(accept)):
            for sample in family.samples:
                labels = {name: value for name, value in sample.labels.items() if name != "job"}
                if sample.labels.get("job") != job or sample.name.endswith("_created") or sample.name == "target_info":
                    continue
                key = (sample.name, frozenset(labels.items()))
                assert key not in samples, f"{key} is twice on the page"
                samples[key] = sample.value
        found.append(samples)
    assert repr(sorted(found[0].items(), key=repr)) == repr(sorted(found[1].items(), key=repr))
    return found[0]


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
        ledger = collector.ledger()
        assert ledger["balances"], ledger


@pytest.fixture(scope="module")
def prometheus(collector: Collector) -> Iterator[Prometheus]:
    with Prometheus(collector.prometheus) as prometheus:
        yield prometheus


def test_two_scopes_of_one_program_are_both_on_the_page(collector: Collector, prometheus: Prometheus) -> None:
    push(collector, "scopes", [counter("requests", [number(5)]), gauge("depth", [number(1)])], "lib.one")
    push(collector, "scopes", [counter("requests", [number(7)]), gauge("depth", [number(2)])], "lib.two")
    assert read(collector, "scopes") == {
        sample("requests_total", otel_scope_name="lib.one"): 5,
        sample("requests_total", otel_scope_name="lib.two"): 7,
        sample("depth", otel_scope_name="lib.one"): 1,
        sample("depth", otel_scope_name="lib.two"): 2,
    }
    prometheus.wait_query('sum(requests_total{job="scopes"}) == 12')


def test_two_hosts_of_one_service_are_both_on_the_page(collector: Collector, prometheus: Prometheus) -> None:
    for host, value in (("a", 3), ("b", 4)):
        push(collector, "hosts", [counter("calls", [number(value)]), gauge("load", [number(value)])], host_name=host)
    assert read(collector, "hosts") == {
        sample("calls_total", host_name="a"): 3,
        sample("calls_total", host_name="b"): 4,
        sample("load", host_name="a"): 3,
        sample("load", host_name="b"): 4,
    }
    prometheus.wait_query('sum(calls_total{job="hosts"}) == 7')


@pytest.mark.parametrize(
    ("name", "values"),
    [("number", (1, "1")), ("flag", (True, "true")), ("empty", ("", None))],
)
def test_attributes_that_are_equal_as_text_are_one_total(collector: Collector, name: str, values: tuple[object, ...]) -> None:
    for value, calls in zip(values, (1, 2), strict=True):
        attributes = {} if value is None else {"a": value}
        push(collector, f"types-{name}", [counter("calls", [number(calls, attributes)], delta=True)])
    assert list(read(collector, f"types-{name}").values()) == [3]


def test_a_counter_and_a_gauge_of_one_name_are_both_on_the_page(collector: Collector, prometheus: Prometheus) -> None:
    metrics = [counter("m", [number(5)]), gauge("m", [number(7)])]
    push(collector, "kinds", metrics)
    assert read(collector, "kinds") == {sample("m_total"): 5, sample("m"): 7}
    prometheus.wait_query('m_total{job="kinds"} + on (job) m == 12')
    assert "# TYPE m_total unknown" in collector.metrics(OPENMETRICS)
    assert "# TYPE m_total counter" in collector.metrics()


def test_families_that_share_a_sample_name_hide_none_of_another_service(collector: Collector) -> None:
    push(collector, "gauge-count", [gauge("a.count", [number(3)])])
    push(collector, "histogram-count", [histogram("a", 4)])
    assert read(collector, "gauge-count") == {sample("a_count"): 3}
    assert read(collector, "histogram-count") == {
        sample("a_bucket", le="1.0"): 4,
        sample("a_bucket", le="+Inf"): 4,
        sample("a_sum"): 1,
        sample("a_count"): 4,
    }


def test_a_hidden_gauge_is_counted_with_its_reason(collector: Collector) -> None:
    push(collector, "hidden", [gauge("size", [number(1, {"a": 1}), number(2, {"a": "1"})])])
    assert list(read(collector, "hidden").keys()) == [sample("size", a="1")]
    accounts = [account for account in collector.ledger()["ingest"] if "hidden" in account["source"]]
    assert [(account["received"], account["applied"], account["hidden"]) for account in accounts] == [(2, 1, {"label_text": 1})]


def test_reserved_and_doubled_labels_leave_a_page_that_every_parser_reads(collector: Collector, prometheus: Prometheus) -> None:
    names = ["__name__", "__tmp", "le", "quantile", "job", "instance", "", "a.b", "a_b", "1st", "größe", "exported_job", "run time"]
    push(collector, "labels", [gauge("g", [number(1, {name: "x" for name in names})])], __address__="r")
    push(collector, "labels", [histogram("h", 2, {"le": "0.5", "a": "b"})])
    values = read(collector, "labels")
    assert values[sample("h_count", exported_le="0.5", a="b", **{})] == 2
    prometheus.wait_query('g{job="labels", exported___name__="x", le="x", a_b="x;x"} == 1')
    checked = promtool("check", "metrics", stdin=collector.metrics())
    assert "error while" not in checked.stderr, checked.stderr


def test_names_of_other_alphabets_stay_apart(collector: Collector) -> None:
    metrics = [gauge("größe", [number(1)], "By"), gauge("grösse", [number(2)], "By"), counter("数", [number(3)])]
    push(collector, "letters", metrics)
    assert sorted(read(collector, "letters").values()) == [1, 2, 3]
    page = collector.metrics("text/plain;version=1.0.0;escaping=allow-utf-8")
    assert '# TYPE "größe_bytes" gauge\n{"größe_bytes",job="letters"} 1' in page
    assert '{"数_total",job="letters"} 3' in page


def test_names_that_look_escaped_and_a_counter_named_total_lose_no_page(collector: Collector, prometheus: Prometheus) -> None:
    labels = {"U___22_:": "1", "U___61_": "2", "a": "3", "U______name____": "4"}
    metrics = [gauge("g", [number(5, dict(labels))]), counter("_total", [number(6)]), gauge("U__g", [number(7)])]
    push(collector, "escaped", metrics)
    assert sorted(read(collector, "escaped").values()) == [5, 6, 7]
    prometheus.wait_query('_total_total{job="escaped"} == 6')
    page = collector.metrics("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8")
    names = [name for family in openmetrics(page) for sample in family.samples for name in sample.labels if "U__" in name]
    assert names == ["U___22__", "U___61_", "U______name____"]


def test_a_histogram_without_a_sum_has_its_count_in_both_formats(collector: Collector) -> None:
    whole = histogram("sumless", 4)
    del whole["histogram"]["dataPoints"][0]["sum"]
    push(collector, "sumless", [whole])
    assert read(collector, "sumless")[sample("sumless_count")] == 4


def test_a_gauge_that_is_a_bucket_of_a_histogram_is_not_twice_on_the_page(collector: Collector) -> None:
    push(collector, "bucket", [histogram("a", 2), gauge("a.bucket", [number(6, {"le": "1.0"}), number(7, {"le": "2.0"})])])
    values = read(collector, "bucket")
    assert values[sample("a_bucket", le="2.0")] == 7
    assert 6 not in values.values()


def test_units_are_not_doubled(collector: Collector) -> None:
    metrics = [
        gauge("uptime.seconds", [number(1)], "s"),
        gauge("bytes.used", [number(2)], "By"),
        gauge("hit.ratio", [number(3)], "1"),
    ]
    push(collector, "units", metrics)
    assert {name for name, _ in read(collector, "units")} == {"uptime_seconds", "bytes_used", "hit_ratio"}


def test_processes_that_share_a_resource_are_added_up(collector: Collector) -> None:
    starts = {-100: 147, -99: 315, -98: 22, -97: 462}
    seen = []
    for round_ in range(3):
        for start, value in starts.items():
            point = number(value + round_, start=0)
            point["startTimeUnixNano"] = str(EPOCH + start * SECOND)
            push(collector, "prefork", [counter("jobs", [point])])
            seen.append(read(collector, "prefork")[sample("jobs_total")])
    assert seen[-1] == sum(starts.values()) + 4 * 2
    assert all(before <= after for before, after in itertools.pairwise(seen[4:]))
    findings = collector.api("/api/v1/lint")["findings"]
    assert [finding["subject"] for finding in findings if finding["check"] == "several_writers"] == ["jobs"]


def test_processes_that_share_a_start_are_reported(collector: Collector) -> None:
    for value in [15, 25, 35, 45, 55]:
        for process in [0, 10]:
            point = number(value + process * (value // 10), start=0)
            point["startTimeUnixNano"] = str(EPOCH - 100 * SECOND)
            push(collector, "forked", [counter("tasks", [point])])
    findings = collector.api("/api/v1/lint")["findings"]
    assert [finding["subject"] for finding in findings if finding["check"] == "shared_start"] == ["tasks"]
    warning = 'dichroic_warnings_total{job="dichroic",kind="shared_starts"'
    wait_until(lambda: warning in collector.metrics(), 10, "the warning in the self telemetry")


def test_a_value_that_openmetrics_forbids_is_on_the_page(collector: Collector) -> None:
    push(collector, "forbidden", [counter("debt", [number(-3), number(4, {"a": "b"})]), histogram("temperature", 2, sum_=-5.0)])
    assert read(collector, "forbidden") == {
        sample("debt_total"): -3,
        sample("debt_total", a="b"): 4,
        sample("temperature_bucket", le="1.0"): 2,
        sample("temperature_bucket", le="+Inf"): 2,
        sample("temperature_sum"): -5,
        sample("temperature_count"): 2,
    }
    findings = collector.api("/api/v1/lint")["findings"]
    found = {(finding["level"], finding["subject"]) for finding in findings if finding["check"] == "forbidden_value"}
    assert {("warning", "debt"), ("note", "temperature")} <= found


def test_a_restarted_collector_shows_the_same_page(collector: Collector) -> None:
    metrics = [counter("m", [number(1)]), gauge("m", [number(2)])]
    pages = []
    for order in (("one", "two"), ("two", "one")):
        with Collector() as fresh:
            for scope in order:
                push(fresh, "again", metrics if scope == "one" else metrics[::-1], scope)
            wait_until(lambda fresh=fresh: len(read(fresh, "again")) == 4, 5, "four series")  # type: ignore[misc]
            pages.append(read(fresh, "again"))
    assert pages[0] == pages[1]


def test_configuration_promotes_resource_attributes_and_shows_scopes() -> None:
    config = {
        "receivers": {"otlp": {"promote_resource_attributes": ["k8s.namespace.name", "absent"]}},
        "exporters": {"prometheus": {"scope_labels": "always"}},
    }
    with Collector(config=config) as collector:
        push(collector, "promoted", [gauge("g", [number(1)])], "lib", **{"k8s.namespace.name": "web"})
        assert read(collector, "promoted") == {sample("g", k8s_namespace_name="web", otel_scope_name="lib"): 1}

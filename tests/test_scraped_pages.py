"""Pages that a real Prometheus and the collector scrape: both have the same series and values."""

import math

import pytest
from harness.process import wait_until
from prometheus_client import CollectorRegistry, Counter, Histogram, Summary, start_http_server
from scraped_pages import (
    PAGES,
    PagePrometheus,
    PageServer,
    check_same,
    collector_of,
    of_collector,
    openmetrics,
    scrape_config,
    ups,
)


@pytest.fixture
def program():
    """A program with prometheus_client that observes what it should not; its address."""
    registry = CollectorRegistry()
    latency = Histogram("reward", "Rewards.", ["kind"], registry=registry)
    latency.labels("nan").observe(math.nan)
    latency.labels("nan").observe(1)
    latency.labels("negative").observe(-3)
    latency.labels("good").observe(0.2)
    summary = Summary("temperature", "Temperatures.", ["kind"], registry=registry)
    summary.labels("nan").observe(math.nan)
    summary.labels("negative").observe(-40)
    Counter("jobs", "Jobs.", registry=registry).inc(5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_scraped_page_has_the_series_that_prometheus_takes_from_it(program):
    pages = [page for page in PAGES if not page.since_3]
    with PageServer(pages) as server:
        configs = [*server.scrape_configs(pages), scrape_config("client", program)]
        with PagePrometheus(configs) as prometheus, collector_of(configs) as collector:
            check_same(prometheus, collector, [config["job_name"] for config in configs])


def test_violations_are_counted_and_reported_and_refused_on_request(program):
    page = openmetrics("strict_page", "# TYPE x counter\nx_total 1\n# TYPE x gauge\nx 2\n")
    strict = {"strict": True}
    with PageServer([page]) as server:
        configs = [
            scrape_config("lenient", server.address, "/strict_page"),
            scrape_config("strict", server.address, "/strict_page", **strict),
            scrape_config("client", program),
            scrape_config("strict_client", program, **strict),
        ]
        with collector_of(configs) as collector:
            jobs = {"lenient": 1.0, "strict": 0.0, "client": 1.0, "strict_client": 0.0}
            text = "text/plain;version=0.0.4"
            wait_until(lambda: jobs.items() <= ups(of_collector(collector, text)).items() or None, 30, f"{jobs}")
            findings = collector.api("/api/v1/lint")["findings"]
            reported = {
                (finding["source"].split("/")[0], finding["message"].split(" ")[0])
                for finding in findings
                if finding["check"] == "openmetrics"
            }
            assert {("lenient", "families"), ("client", "values")} <= reported
            assert not {job for job, _ in reported} & {"strict", "strict_client"}
            ledger = collector.ledger()
            counted = {(each["source"].split("/")[0], each["reason"]) for each in ledger["violations"]}
            assert {("lenient", "families"), ("client", "values")} <= counted
            assert ledger["balances"]
            wait_until(
                lambda: 'dichroic_violations_total{job="dichroic"' in collector.metrics() or None, 10, "the counter of violations"
            )

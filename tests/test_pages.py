"""The page of a collector under load, read by third-party parsers."""

import pytest
from actors import samples
from harness.collector import Collector
from harness.demo import Embedder, Recommender, Shop
from harness.process import ROOT, wait_until
from harness.prometheus import promtool
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture(scope="module")
def pages():
    with (
        Embedder() as embedder,
        Collector(scrape=[embedder.url]) as collector,
        Shop(collector, rate=100),
        Recommender(collector),
    ):

        def all_sources():
            page = collector.metrics()
            wanted = ('job="shop"', 'job="workers"', 'job="shop/recommender"', 'job="dichroic"')
            return all(job in page for job in wanted)

        wait_until(all_sources, 30, "every source on the page")
        yield collector.metrics(), collector.metrics(OPENMETRICS)


def test_the_official_parser_reads_both_formats_with_the_same_series(pages):
    text, open_metrics = pages
    ours = {(name, frozenset(labels.items())) for name, labels, _ in samples(text)}
    theirs = {
        (sample.name, frozenset(sample.labels.items()))
        for family in openmetrics(open_metrics)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    # A new status or route may have appeared between the two scrapes.
    assert len(ours ^ theirs) < 0.02 * len(ours), sorted(ours ^ theirs)[:10]


def test_no_series_is_on_a_page_twice(pages):
    for page in pages:
        lines = [line.rsplit(" ", 1)[0] for line in page.splitlines() if line and not line.startswith("#")]
        assert len(lines) == len(set(lines))


def test_promtool_accepts_the_page_and_reports_no_family_of_the_collector(pages):
    checked = promtool("check", "metrics", stdin=pages[0])
    output = (checked.stdout + checked.stderr).splitlines()
    assert checked.returncode in (0, 3), output
    assert "error while linting" not in checked.stderr, output
    assert [line for line in output if line.startswith("dichroic_")] == []


def test_beam_and_python_share_one_metric(pages):
    runtimes = {labels["runtime"] for name, labels, _ in samples(pages[0]) if name == "http_server_request_duration_seconds_count"}
    assert runtimes == {"beam", "python"}


def test_the_example_scrape_configuration_is_valid():
    checked = promtool("check", "config", "--syntax-only", str(ROOT / "examples" / "sidecar" / "prometheus.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr

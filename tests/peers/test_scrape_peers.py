"""Pages that Prometheus 3 and the collector scrape: both have the same series and values, and ask in the same way."""

from peers import Prometheus3
from scraped_pages import PAGES, Page, PageServer, Scrapes, check_same, collector_of, scrape_config
from test_scraped_pages import program  # noqa: F401

PROTOCOLS = {"scrape_protocols": ["PrometheusText0.0.4", "OpenMetricsText1.0.0"]}


class PagePrometheus3(Scrapes, Prometheus3):
    """Prometheus 3 with the targets of a test."""

    def __init__(self, scrape_configs):
        super().__init__("")
        self.scrape_configs = scrape_configs


def test_a_scraped_page_has_the_series_that_prometheus_3_takes_from_it(program):  # noqa: F811
    pages = [*PAGES, Page("protocols", "a 1\n", "text/plain", PROTOCOLS)]
    with PageServer(pages) as server:
        configs = [*server.scrape_configs(pages), scrape_config("client", program)]
        with PagePrometheus3(configs) as prometheus, collector_of(configs) as collector:
            check_same(prometheus, collector, [config["job_name"] for config in configs])
            for name in ("empty", "protocols"):
                assert server.requests[name, "dichroic"] == server.requests[name, "prometheus"]

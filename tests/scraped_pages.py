"""Pages that a Prometheus and the collector scrape side by side, and what each of them shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from harness.collector import Collector
from harness.process import wait_until
from harness.prometheus import Prometheus
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Page:
    """A page, as job `name`. `settings` are those of its scrape configuration."""

    name: str
    body: str
    content_type: str | None = OPENMETRICS
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Only Prometheus 3 takes it like this.
    since_3: bool = False


def openmetrics(name: str, body: str, **more: Any) -> Page:
    return Page(name, body + "# EOF\n", **more)


def text(name: str, body: str, **more: Any) -> Page:
    return Page(name, body, TEXT, **more)


def both(name: str, body: str, **more: Any) -> list[Page]:
    """The same page in both formats."""
    return [openmetrics(f"om_{name}", body, **more), text(f"text_{name}", body, **more)]


HISTOGRAM = "# TYPE h histogram\n"
HONOR = {"honor_labels": True}

PAGES: list[Page] = [
    # What client libraries and exporters are known to serve.
    *both("nan_observed", '# TYPE nh histogram\nnh_bucket{le="+Inf"} 3\nnh_sum NaN\nnh_count 3\n'),
    *both("negative_sum", HISTOGRAM + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_count 1\nh_sum -3\n'),
    *both("interleaved", '# TYPE x counter\nx_total{s="a"} 1\n# TYPE y counter\ny_total 1\n# TYPE x counter\nx_total{s="b"} 2\n'),
    *both("counter_and_gauge", "# TYPE x counter\nx_total 1\n# TYPE x gauge\nx 2\n"),
    *both("samples_apart", '# TYPE x counter\nx_total{s="a"} 1\ny 1\nx_total{s="b"} 2\n'),
    *both("nan_counter", "# TYPE x counter\nx_total NaN\n# TYPE y counter\ny_total -1\n# TYPE z counter\nz 1\n"),
    # Histograms and summaries that are not whole.
    *both("fractions", HISTOGRAM + 'h_bucket{le="1"} 0.5\nh_bucket{le="+Inf"} 1.5\nh_count 1.5\nh_sum 2\n'),
    *both("falling", HISTOGRAM + 'h_bucket{le="1"} 5\nh_bucket{le="+Inf"} 4\nh_count 4\nh_sum 2\n'),
    *both("no_infinity", HISTOGRAM + 'h_bucket{le="1"} 1\nh_count 1\nh_sum 2\n'),
    *both("no_count", HISTOGRAM + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 2\n'),
    *both("no_sum", HISTOGRAM + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_count 1\n'),
    *both("sum_alone", HISTOGRAM + "h_sum 2\n"),
    *both("other_count", HISTOGRAM + 'h_bucket{le="+Inf"} 1\nh_count 2\nh_sum 2\n'),
    *both(
        "one_of_two",
        HISTOGRAM
        + 'h_bucket{a="1",le="+Inf"} 1\nh_count{a="1"} 1\nh_sum{a="1"} 2\n'
        + 'h_bucket{a="2",le="+Inf"} 1\nh_count{a="2"} 3\nh_sum{a="2"} 4\n',
    ),
    *both("bounds", HISTOGRAM + 'h_bucket{le="x"} 1\nh_bucket{le="+Inf"} 1\nh_count 1\nh_sum 2\nh_count{le="1"} 3\n'),
    *both("minus_infinity", HISTOGRAM + 'h_bucket{le="-Inf"} 1\nh_bucket{le="+Inf"} 1\nh_count 1\nh_sum 2\n'),
    *both("quantiles_alone", '# TYPE s summary\ns{quantile="0.5"} 1\ns{quantile="0.9"} NaN\n'),
    *both("quantiles", '# TYPE s summary\ns{quantile="0.5"} -1\ns{quantile="2"} 1\ns_count 1.5\ns_sum -3\n'),
    *both("summary", '# TYPE s summary\ns{quantile="0.5"} NaN\ns_count 0\ns_sum 0\n'),
    openmetrics("om_states", '# TYPE i info\ni_info{a="b"} 2\n# TYPE t stateset\nt{t="on"} 3\nt{t="off"} 0\nt{u="1"} 1\n'),
    openmetrics("om_gauge_histogram", '# TYPE g gaugehistogram\ng_bucket{le="+Inf"} 2\ng_gcount 2\ng_gsum -1\n'),
    openmetrics("om_created", "# TYPE c counter\nc_total 1\nc_created 1700000000.123\n# TYPE d counter\nd_created 5\n"),
    # Syntax.
    openmetrics("om_comma", 'a{b="c",} 1\n', since_3=True),
    openmetrics("om_metadata", "# TYPE a gauge\n# TYPE a gauge\n# HELP a x\n# HELP a y\na 1\n# HELP a z\n"),
    openmetrics("om_exemplars", 'a 1 # {b="1",b="2"} 1\nc 1 # {b="' + "x" * 200 + '"} 1\n', since_3=True),
    *both("escapes", 'a{b="x\\\\y\\"z\\nw"} 1\na{b="\\\\n"} 2\n'),
    text("text_blanks", 'a { b = "c" , } 1 \n\n#TYPE a nothing\n# a comment\nb\t2\n'),
    Page("empty", "", OPENMETRICS, since_3=True),
    Page("no_type", "a 1\n", None, {"fallback_scrape_protocol": "PrometheusText0.0.4"}, since_3=True),
    Page("fallback", "a 1\n# EOF\n", "text/html", {"fallback_scrape_protocol": "OpenMetricsText1.0.0"}, since_3=True),
    Page("no_fallback", "a 1\n", None, since_3=True),
    Page("html", "a 1\n", "text/html", since_3=True),
    openmetrics("om_utf8", '# TYPE "größe" gauge\n{"größe","straße"="x"} 1\n', since_3=True),
    text("text_utf8", '# TYPE "größe" gauge\n{"größe","straße"="x"} 1\n', since_3=True),
    # Labels.
    *both("duplicates", "a 1\na 2\n"),
    *both("empty_labels", 'a{b="",c="1"} 1\na{b="2"} 2\n'),
    text("text_same_labels", 'a{b="1",c="2"} 1\na{c="2",b="1"} 1\n'),
    text("honor_empty", 'honor_a{instance=""} 1\nhonor_b{job="",instance=""} 2\nhonor_c{job="x"} 3\n', settings=HONOR),
    text("honor_not", 'a{instance="",job="x"} 1\nb{exported_instance="1",instance="2"} 2\n'),
    text("exported", 'a{job="1",exported_job="2",exported_exported_job="3"} 1\n'),
    # What Prometheus refuses.
    Page("bad_no_end", "a 1\n"),
    openmetrics("bad_blank_line", "a 1\n\nb 1\n"),
    openmetrics("bad_comment", "# a comment\na 1\n"),
    openmetrics("bad_type", "# TYPE a untyped\na 1\n"),
    openmetrics("bad_unit", "# UNIT a seconds\na 1\n"),
    openmetrics("bad_blanks", "a  1\n"),
    openmetrics("bad_line_feed", 'a{b="c\nd"} 1\n'),
    *both("bad_value", "a 1\nb x\n"),
    *both("bad_hexadecimal", "a 0x1p-3\n"),
    *both("bad_comma", 'a{b="c",,d="e"} 1\n'),
    *both("bad_duplicate_label", 'a{b="c",b="d"} 1\n'),
    text("bad_timestamp", "a 1 -5\n"),
]


class PageServer:
    """Serves every page under its name. `requests` has the `Accept` header of the last request for a page by user agent."""

    def __init__(self, pages: Iterable[Page]):
        by_path = {f"/{page.name}": page for page in pages}
        requests: dict[tuple[str, str], str] = {}

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                page = by_path[self.path]
                agent = self.headers["User-Agent"].split("/")[0].lower()
                requests[page.name, agent] = self.headers["Accept"]
                body = page.body.encode()
                self.send_response(200)
                if page.content_type is not None:
                    self.send_header("Content-Type", page.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.requests = requests
        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> PageServer:
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def scrape_configs(self, pages: Iterable[Page]) -> list[dict[str, Any]]:
        return [scrape_config(page.name, self.address, f"/{page.name}", **page.settings) for page in pages]


def scrape_config(job: str, target: str, path: str = "/metrics", **settings: Any) -> dict[str, Any]:
    """An entry of `scrape_configs`, the same for Prometheus and the collector."""
    return {
        "job_name": job,
        "scrape_interval": "2s",
        "scrape_timeout": "2s",
        "metrics_path": path,
        "static_configs": [{"targets": [target]}],
        **settings,
    }


class Scrapes:
    """Makes a Prometheus scrape these targets."""

    scrape_configs: Sequence[dict[str, Any]] = ()

    def argv(self) -> Sequence[str]:
        argv: Sequence[str] = super().argv()  # type: ignore[misc]
        file = self.folder / "prometheus.yml"  # type: ignore[attr-defined]
        file.write_text(json.dumps({"scrape_configs": list(self.scrape_configs)}))
        return argv


class PagePrometheus(Scrapes, Prometheus):
    """Debian's Prometheus with the targets of a test."""

    def __init__(self, scrape_configs: Sequence[dict[str, Any]]):
        super().__init__("")
        self.scrape_configs = scrape_configs


def collector_of(scrape_configs: Sequence[dict[str, Any]]) -> Collector:
    return Collector(config={"receivers": {"prometheus": {"scrape_configs": list(scrape_configs)}}})


def series_of(name: str, labels: Mapping[str, str]) -> Series:
    """A series, with numbers in `le` and `quantile` in one spelling and without empty labels."""

    def canonical(key: str, value: str) -> str:
        if key not in ("le", "quantile"):
            return value
        try:
            return repr(float(value))
        except ValueError:
            return value

    return name, frozenset((key, canonical(key, value)) for key, value in labels.items() if value and key != "__name__")


def of_a_target(series: Series) -> bool:
    """Not a series that describes a scrape, nor one of the collector itself."""
    name, labels = series
    about_scrapes = name.startswith("scrape_") or name in ("up", "target_info")
    return not about_scrapes and ("job", "dichroic") not in labels


def of_prometheus(prometheus: Prometheus, query: str = '{__name__=~".+"}') -> dict[Series, float]:
    rows = prometheus.query(query)
    return {series_of(row["metric"].get("__name__", ""), row["metric"]): float(row["value"][1]) for row in rows}


def of_collector(collector: Collector, accept: str) -> dict[Series, float]:
    """What the page of the collector shows, read by the official parser. Each series is on it once."""
    read = read_openmetrics if "openmetrics" in accept else read_text
    found: dict[Series, float] = {}
    for family in read(collector.metrics(accept)):
        for sample in family.samples:
            series = series_of(sample.name, sample.labels)
            assert series not in found, series
            found[series] = sample.value
    return found


def ups(found: Mapping[Series, float]) -> dict[str, float]:
    return {dict(labels)["job"]: value for (name, labels), value in found.items() if name == "up"}


def target_errors(collector: Collector) -> dict[str, str]:
    return {target["job"]: target["last_error"] for target in collector.api("/api/v1/sources")["targets"] if target["last_error"]}


def same(a: float, b: float, created: bool) -> bool:
    # The page has start times in milliseconds.
    return a == b or (math.isnan(a) and math.isnan(b)) or (created and math.isclose(a, b, rel_tol=0, abs_tol=1e-3))


def check_same(prometheus: Prometheus, collector: Collector, jobs: Sequence[str]) -> None:
    """Both have scraped every job; the collector's pages show the series and values that Prometheus has stored."""
    wanted = {*jobs}

    def scraped(found: Mapping[Series, float]) -> bool:
        return wanted <= ups(found).keys()

    utf8 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
    wait_until(lambda: scraped(of_prometheus(prometheus)) or None, 30, "Prometheus to scrape all")
    wait_until(lambda: scraped(of_collector(collector, utf8)) or None, 30, "the collector to scrape all")
    theirs = of_prometheus(prometheus)
    states = ups(theirs)
    series = {key: value for key, value in theirs.items() if of_a_target(key)}
    for accept in (utf8, "text/plain;version=1.0.0;escaping=allow-utf-8"):
        page = of_collector(collector, accept)
        up = ups(page)
        wrong = {job: (state, up[job]) for job, state in states.items() if state != up[job]}
        assert not wrong, f"up in Prometheus and in the collector: {wrong}; {target_errors(collector)}"
        ours = {as_written(key, series): value for key, value in page.items() if of_a_target(key)}
        # A page has start times as such, and only in OpenMetrics: not where a family is shown without its type.
        series = {key: value for key, value in series.items() if not is_start(key) or key in ours}
        ours = {key: value for key, value in ours.items() if not is_start(key) or key in series}
        missing, more = series.keys() - ours.keys(), ours.keys() - series.keys()
        assert not missing | more, f"{accept}: missing {sorted(map(shown, missing))}, more {sorted(map(shown, more))}"
        other = {shown(key): (value, ours[key]) for key, value in series.items() if not same(value, ours[key], is_start(key))}
        assert not other, f"{accept}: values in Prometheus and in the collector: {other}"
    ledger = collector.ledger()
    assert ledger["balances"], ledger


def as_written(series: Series, known: Mapping[Series, float]) -> Series:
    """The parser of text pages appends `_total` to the name of every counter."""
    name, labels = series
    plain = name.removesuffix("_total"), labels
    return plain if series not in known and plain in known else series


def is_start(key: Series) -> bool:
    return key[0].endswith("_created")


def shown(series: Series) -> str:
    name, labels = series
    return f"{name}{{{', '.join(f'{key}={value}' for key, value in sorted(labels))}}}"

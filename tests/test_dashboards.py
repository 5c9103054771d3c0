"""The dashboards: they follow the rules, equal the generator's output, and every query has a result in a real Prometheus.

No Grafana runs here. What runs is everything below it: the real collector, under the load of the demo's programs, scraped by a
real Prometheus, queried as by Grafana, with variables expanded as Grafana expands them. An empty, NaN-only or failed answer
fails, and so does a metric of the page that no panel shows.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dash_lint import EXCEPTIONS, problems
from dash_queries import (
    DASHBOARDS,
    chosen,
    dashboards,
    expand,
    label_values,
    legend,
    legend_labels,
    metrics_of,
    metrics_of_rule,
    numbers,
    panels,
    query_variables,
    table_labels,
)
from harness.collector import Collector
from harness.demo import Embedder, Recommender, Shop
from harness.process import Timeout, wait_until
from harness.prometheus import Prometheus, QueryError, promtool

Json = Any
RULES = DASHBOARDS / "rules"
BOARDS = dashboards()

# Panels that are empty in a healthy run. Their queries must succeed all the same.
EMPTY_WHEN_HEALTHY = {
    ("dichroic-self", "Dropped by source and reason"): "nothing is dropped within the limits",
    ("dichroic-self", "What relays could not count or send"): "nothing is lost, skipped or folded",
}

# Families of the page that no panel shows. A name may be a pattern.
DELIBERATELY_UNUSED = {
    r"vm_info": "versions of the node: for joins and the catalog",
    r"embedder_.*": "the demo worker's own; an application brings its own dashboard",
    r"recommender_.*": "the demo service's own; an application brings its own dashboard",
    r"snakepit_worker_recycle_memory_bytes": "only for tuning the recycling: see the catalog",
    r"snakepit_crash_barrier_crashes_total": "part of the crashes, which have a line",
    r"snakepit_workers_terminated_total|snakepit_worker_lifetime_seconds": "planned ends too, which need no attention",
}

# Seconds from the first request until every panel has data.
PATIENCE = 120.0


# ---- as files --------------------------------------------------------------------------------------------------------------


def test_the_three_dashboards_exist():
    assert {uid: board["title"] for uid, board in BOARDS.items()} == {
        "dichroic-services": "Federated services",
        "dichroic-beam": "BEAM VM",
        "dichroic-self": "Dichroic itself",
    }


def test_the_committed_files_are_what_the_generator_writes():
    program = "import build, json; print(json.dumps(build.files()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=DASHBOARDS, capture_output=True, text=True, check=True)
    built = json.loads(done.stdout)
    committed = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json")}
    assert sorted(built) == sorted(committed)
    for name, text in built.items():
        assert committed[name] == text, f"{name} is out of date: run `python dashboards/build.py`"


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_follows_the_rules(uid: str):
    assert problems(BOARDS[uid]) == []


def test_every_exception_from_the_rules_is_still_needed():
    titles = {(uid, panel["title"]) for uid, board in BOARDS.items() for panel in panels(board)}
    assert [key for key in EXCEPTIONS if key[1:] not in titles] == []


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda b: b.update(editable=True), "editable"),
        (lambda b: b.update(schemaVersion=41), "schemaVersion"),
        (lambda b: b["templating"]["list"].pop(1), "datasource, job, instance"),
        (lambda b: b["templating"]["list"][1].update(refresh=1), "refresh"),
        (lambda b: b["panels"][0]["gridPos"].update(w=25), "24 columns"),
        (lambda b: b["panels"][1]["gridPos"].update(x=0), "overlaps"),
        (lambda b: b["panels"][1].update(id=b["panels"][0]["id"]), "unique"),
        (lambda b: b["panels"][0].update(title=""), "title"),
        (lambda b: b["panels"][0].update(description=""), "description"),
        (lambda b: b["panels"][0].update(targets=[]), "no query"),
        (lambda b: b["panels"][0]["fieldConfig"]["defaults"].update(unit="seconds"), "unit"),
        (lambda b: b["panels"][0]["fieldConfig"]["defaults"].pop("noValue"), "noValue"),
        (lambda b: b["panels"][0].update(datasource={"type": "prometheus", "uid": "abc"}), "data source"),
        (lambda b: expression(b, 'sum(rate(x_total{job=~"$job"}[$__rate_interval]))'), "variable instance"),
        (lambda b: expression(b, 'rate(x_total{job=~"$job",instance=~"$instance"}[5m])'), "zoom"),
        (lambda b: expression(b, 'x_total{job=~"$job",instance=~"$instance"}'), "without rate"),
        (lambda b: expression(b, 'rate(x{job=~"$job",instance=~"$instance"}[$__rate_interval])'), "not a counter"),
        (lambda b: expression(b, 'sum(x{job=~"$job",instance=~"$instance"}'), "parentheses"),
    ],
)
def test_a_violated_rule_is_reported(break_it: Any, message: str):
    board = copy.deepcopy(BOARDS["dichroic-services"])
    break_it(board)
    assert any(message in problem for problem in problems(board)), problems(board)


def expression(board: Json, expr: str) -> None:
    board["panels"][0]["targets"][0]["expr"] = expr


def test_variables_expand_as_in_grafana():
    variable = {"allValue": ".+"}
    check = [(None, ".+"), (["a.b"], r"a\\.b"), (["a", "b/c"], r"(a|b\\/c)")]
    assert [chosen(variable, values) for values, _ in check] == [expected for _, expected in check]
    assert expand('rate(x{a=~"$job"}[$__rate_interval]) ${job:regex}', {"job": "j"}, 15, 15) == 'rate(x{a=~"j"}[60s]) j'
    assert expand("$__rate_interval", {}, 60, 15) == "75s"
    with pytest.raises(KeyError):
        expand("$nope", {})


def test_a_result_without_a_finite_number_counts_as_empty():
    check = [
        ([], []),
        ([{"metric": {}, "value": [1, "NaN"]}], []),
        ([{"metric": {}, "values": [[1, "NaN"], [2, "+Inf"]]}], []),
        ([{"metric": {}, "values": [[1, "NaN"], [2, "0.5"]]}, {"metric": {}, "value": [1, "0"]}], [0.5, 0.0]),
    ]
    for answer, expected in check:
        assert numbers(answer) == expected


def test_metrics_of_an_expression_are_found():
    assert metrics_of('sum by (a_b) (rate(x_total{job=~"y_z{"}[5m])) / up{a="b"}') == {"x_total", "up"}
    rule = 'sum by (a_b, le) (rate(x_total{event="y_z"}[15m])) / (up > 0) and on (a_b) job:z:rate5m > 0.1'
    assert metrics_of_rule(rule) == {"x_total", "up", "job:z:rate5m"}


# ---- rules -----------------------------------------------------------------------------------------------------------------


def test_rule_files_are_valid():
    done = promtool("check", "rules", "recording.yaml", "alerts.yaml", cwd=RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_record_and_alert_as_in_their_cases():
    done = promtool("test", "rules", "tests.yaml", cwd=RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case():
    alerts = re.findall(r"- alert: (\w+)", (RULES / "alerts.yaml").read_text())
    cases = (RULES / "tests.yaml").read_text()
    assert [alert for alert in alerts if f"alertname: {alert}" not in cases] == []


# ---- against a real Prometheus ---------------------------------------------------------------------------------------------


@dataclass
class Live:
    """The running actors."""

    collector: Collector
    prometheus: Prometheus
    since: float

    def series(self, expr: str, instant: bool) -> list[Json]:
        now = time.time()
        if instant:
            return self.prometheus.query(expr)
        return self.prometheus.query_range(expr, self.since, now, 1)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    events = Path(__file__).with_name("dash_events.erl")
    rules = [RULES / "recording.yaml", RULES / "alerts.yaml"]
    since = time.time()
    with (
        Embedder() as embedder,
        # Raw events are sent without a subscriber, so that their counters have data.
        Collector(scrape=[embedder.url], config={"exporters": {"stream": {"retain": ["my_app.repo.query"]}}}) as collector,
        Prometheus(collector.prometheus, rule_files=rules) as prometheus,
        Recommender(collector),
        Shop(collector, rate=40, modules=[events]),
    ):
        yield Live(collector, prometheus, since)


@pytest.fixture(scope="module")
def deadline(live: Live) -> float:
    """One deadline for all panels, which fill at the same time."""
    return time.monotonic() + PATIENCE


def every_query() -> list[Any]:
    return [
        pytest.param(uid, panel, target, id=f"{uid.removeprefix('dichroic-')}: {panel['title']} {target['refId']}")
        for uid, board in BOARDS.items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def remaining(deadline: float) -> float:
    return max(0.5, deadline - time.monotonic())


@pytest.mark.parametrize("uid", BOARDS)
def test_every_variable_has_values(live: Live, deadline: float, uid: str):
    everything = {v["name"]: chosen(v, None) for v in query_variables(BOARDS[uid])}
    for variable in query_variables(BOARDS[uid]):
        selector, label = label_values(expand(variable["query"], everything))
        wait_until(
            lambda s=selector, n=label: live.prometheus.label_values(n, s),
            remaining(deadline),
            f"values of {variable['name']}",
            exact=True,
        )


@pytest.mark.parametrize(("uid", "panel", "target"), every_query())
def test_every_query_of_every_panel_has_an_answer(live: Live, deadline: float, uid: str, panel: Json, target: Json):
    expr = expand(target["expr"], {v["name"]: chosen(v, None) for v in query_variables(BOARDS[uid])})
    if (uid, panel["title"]) in EMPTY_WHEN_HEALTHY:
        assert live.series(expr, target["instant"]) == [], EMPTY_WHEN_HEALTHY[uid, panel["title"]]
        return
    wait_until(lambda: numbers(live.series(expr, target["instant"])), remaining(deadline), f"an answer to {expr}", exact=True)


def filled(uid: str, kind: str) -> list[Any]:
    return [
        pytest.param(uid, panel, id=f"{uid.removeprefix('dichroic-')}: {panel['title']}")
        for panel in panels(BOARDS[uid])
        if panel["type"] == kind and (uid, panel["title"]) not in EMPTY_WHEN_HEALTHY
    ]


def answers(live: Live, deadline: float, uid: str, panel: Json) -> list[tuple[Json, list[Json]]]:
    """Yields each target of a panel and its result."""
    everything = {v["name"]: chosen(v, None) for v in query_variables(BOARDS[uid])}
    found = []
    for target in panel["targets"]:
        expr = expand(target["expr"], everything)
        series_of = lambda e=expr, t=target: [s for s in live.series(e, t["instant"]) if numbers([s])]
        found.append((target, wait_until(series_of, remaining(deadline), f"an answer to {expr}", exact=True)))
    return found


@pytest.mark.parametrize(("uid", "panel"), [p for uid in BOARDS for p in filled(uid, "timeseries")])
def test_every_line_has_a_unique_legend(live: Live, deadline: float, uid: str, panel: Json):
    legends: list[str] = []
    for target, result in answers(live, deadline, uid, panel):
        for label in legend_labels(target):
            assert any(label in series["metric"] for series in result), f"no series has the label {label}"
        legends += [legend(target, series["metric"]) for series in result]
    assert len(set(legends)) == len(legends), sorted(legends)


@pytest.mark.parametrize(("uid", "panel"), [p for uid in BOARDS for p in filled(uid, "table")])
def test_the_queries_of_a_table_have_the_same_rows(live: Live, deadline: float, uid: str, panel: Json):
    rows = []
    for target, result in answers(live, deadline, uid, panel):
        for series in result:
            assert set(series["metric"]) <= table_labels(panel), f"{target['expr']} has other columns"
        rows.append({tuple(sorted(series["metric"].items())) for series in result})
    assert any(rows[0] <= other for other in rows), rows
    assert all(other & rows[0] for other in rows), rows


@pytest.mark.parametrize("uid", BOARDS)
def test_selecting_every_value_is_the_same_as_all(live: Live, deadline: float, uid: str):
    board = BOARDS[uid]
    variables = query_variables(board)
    everything = {v["name"]: chosen(v, None) for v in variables}
    values = {}
    for variable in variables:
        selector, label = label_values(expand(variable["query"], everything))
        values[variable["name"]] = chosen(variable, live.prometheus.label_values(label, selector))
    empty = []
    for panel in panels(board):
        for target in panel["targets"]:
            if (uid, panel["title"]) in EMPTY_WHEN_HEALTHY:
                continue
            expr = expand(target["expr"], values)
            try:
                wait_until(lambda e=expr, t=target: numbers(live.series(e, t["instant"])), 3, "", exact=True)
            except Timeout:
                empty.append(f"{panel['title']}: {expr}")
    assert empty == []


@pytest.mark.parametrize("uid", BOARDS)
def test_every_annotation_query_is_valid(live: Live, uid: str):
    everything = {v["name"]: chosen(v, None) for v in query_variables(BOARDS[uid])}
    for annotation in BOARDS[uid]["annotations"]["list"]:
        if "expr" in annotation:
            # Restarts, which a healthy run does not have.
            assert live.series(expand(annotation["expr"], everything), False) == [], annotation["name"]


def families(page: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))


def test_every_family_of_the_page_is_on_a_dashboard_or_listed_as_unused(live: Live):
    used = {
        name for board in BOARDS.values() for panel in panels(board) for t in panel["targets"] for name in metrics_of(t["expr"])
    }
    parts = re.compile(r"_(bucket|count|sum)$")
    used |= {parts.sub("", name) for name in used}
    left = sorted(families(live.collector.metrics()) - used)
    unexplained = [name for name in left if not any(re.fullmatch(pattern, name) for pattern in DELIBERATELY_UNUSED)]
    assert unexplained == [], "show them on a dashboard, or list them in DELIBERATELY_UNUSED with the reason"


def test_the_list_of_unused_families_is_up_to_date(live: Live):
    page = families(live.collector.metrics())
    unknown = [pattern for pattern in DELIBERATELY_UNUSED if not any(re.fullmatch(pattern, name) for name in page)]
    assert unknown == []


def test_a_quantile_across_runtimes_is_between_those_of_each(live: Live, deadline: float):
    def p95(by: str) -> dict[str, float]:
        name = "http_server_request_duration_seconds_bucket"
        answer = live.prometheus.query(f"histogram_quantile(0.95, sum by ({by} le) (rate({name}[20s])))")
        return {entry["metric"].get("runtime", "all"): float(entry["value"][1]) for entry in answer}

    each = wait_until(lambda: len(p := p95("runtime,")) == 2 and p, remaining(deadline), "both runtimes", exact=True)
    both = p95("")["all"]
    assert min(each.values()) * 0.99 <= both <= max(each.values()) * 1.01, (each, both)


def test_the_rules_are_evaluated_and_a_healthy_demo_has_no_alerts(live: Live, deadline: float):
    def rules() -> list[Json]:
        found = [rule for group in live.prometheus.api("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    seen = wait_until(rules, remaining(deadline), "a first evaluation of the rules", exact=True)
    for name in sorted({name for rule in seen for name in metrics_of_rule(rule["query"])} - {"dichroic_ingest_dropped_total"}):
        # A rule over a metric that does not exist never fires.
        wait_until(lambda n=name: live.prometheus.query(n), remaining(deadline), f"metric {name} of a rule", exact=True)
    assert [(rule["name"], rule.get("lastError")) for rule in seen if rule["health"] != "ok"] == []
    recorded = "job_runtime:http_server_request_duration_seconds:p95_rate5m"
    wait_until(lambda: len(numbers(live.prometheus.query(recorded))) == 2, remaining(deadline), recorded, exact=True)
    assert [alert["labels"]["alertname"] for alert in live.prometheus.api("alerts")["alerts"] if alert["state"] == "firing"] == []


def test_an_invalid_query_is_an_error_and_not_an_empty_result(live: Live):
    with pytest.raises(QueryError):
        live.series("sum(rate(up[4s])", instant=True)


# Must be last: it makes the demo unhealthy.
def test_a_loss_is_shown_with_its_source_and_reason_and_alerts(live: Live):
    panel = next(p for p in panels(BOARDS["dichroic-self"]) if p["title"] == "Dropped by source and reason")
    target = panel["targets"][0]
    expr = expand(target["expr"], {"job": ".+", "instance": ".+"})

    def lose() -> set[str]:
        post_histogram_without_buckets(live.collector)
        lost = [s for s in live.series(expr, target["instant"]) if any(n > 0 for n in numbers([s]))]
        return {legend(target, series["metric"]) for series in lost}

    assert wait_until(lose, 15, "a loss on the panel") == {"broken (metrics): buckets"}

    def alerts() -> set[tuple[str, str, str]]:
        found = live.prometheus.api("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("source", ""), a["state"]) for a in found}

    wait_until(lambda: ("DichroicDrops", "broken", "pending") in alerts(), 15, "the alert")


def post_histogram_without_buckets(collector: Collector) -> None:
    """Pushes a data point that the collector must reject: three bounds, one bucket."""
    point = {"timeUnixNano": "1", "count": "1", "sum": 1, "bucketCounts": ["1"], "explicitBounds": [1, 2, 3]}
    metric = {"name": "h", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "broken"}}]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    headers = {"Content-Type": "application/json"}
    url = f"{collector.otlp_http}/v1/metrics"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        assert json.load(answer)["partialSuccess"]["rejectedDataPoints"] == "1"

"""Rules for dashboards: `problems(document)` returns a line for each violation.

The rules are those of Grafana's dashboard-linter that concern Prometheus, and our own: descriptions, units, legends, the grid.
`EXCEPTIONS` lists the panels that may violate a rule, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dash_queries import metrics_of, panels

Json = Any

UNITS = {"none", "short", "Bps", "reqps", "ops", "s", "bytes", "percentunit"}
KINDS = {"timeseries", "stat", "heatmap", "table", "state-timeline"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COUNTER_FUNCTIONS = ("rate(", "increase(", "irate(")
COUNTER = re.compile(r"(_total|_count|_sum|_bucket)$")

# (rule, dashboard, panel): reason
EXCEPTIONS = {
    ("counter", "dichroic-self", "In flight or unaccounted"): "shows the account since the start, which a rate would hide",
}
# Gauges whose names have a suffix of counters.
GAUGES = {"vm_process_count", "vm_atom_count", "vm_port_count", "vm_ets_count", "vm_persistent_term_count"}


def problems(document: Json) -> list[str]:
    """Returns the violations of a dashboard."""
    found = [*_board(document), *_variables(document), *_grid(document["panels"], "the board")]
    for row in (panel for panel in document["panels"] if panel["type"] == "row"):
        found += _row(row)
    for panel in panels(document):
        for rule, message in [*_panel(panel), *_targets(panel)]:
            if (rule, document["uid"], panel.get("title", "")) not in EXCEPTIONS:
                found.append(f"{panel.get('title') or panel.get('id')}: {message}")
    return found


def _board(document: Json) -> Iterator[str]:
    if document.get("schemaVersion") != 42:
        yield "schemaVersion is not 42"
    if document.get("editable") is not False:
        yield "editable must be false: changes in the browser would be lost at the next start"
    if not re.fullmatch(r"dichroic-[a-z-]{1,30}", document.get("uid", "")):
        yield "uid must begin with dichroic-"
    if not document.get("title") or not document.get("description"):
        yield "title and description are required"
    if document.get("graphTooltip") != 1:
        yield "graphTooltip must be 1, a shared crosshair"
    if "dichroic" not in document.get("tags", []):
        yield "the tag dichroic is required: the dashboards link to each other by it"
    if not any(link["type"] == "dashboards" and link["tags"] == ["dichroic"] and link["keepTime"] for link in document["links"]):
        yield "links to the other dashboards are required"
    if "id" in document:
        yield "must not contain an id: each Grafana server assigns its own"
    ids = [panel["id"] for panel in [*document["panels"], *panels(document)]]
    if len(set(ids)) != len({id(p) for p in [*document["panels"], *panels(document)]}):
        yield "panel ids are not unique"
    titles = [panel["title"] for panel in panels(document)]
    for title in sorted({t for t in titles if titles.count(t) > 1}):
        yield f"two panels have the title {title!r}"
    first = document["panels"][0]
    if first["type"] == "row":
        yield "the first panel must not be in a row"


def _variables(document: Json) -> Iterator[str]:
    variables = {variable["name"]: variable for variable in document["templating"]["list"]}
    if list(variables)[:3] != ["datasource", "job", "instance"]:
        yield "the first variables must be datasource, job, instance"
        return
    source = variables["datasource"]
    if (source["type"], source["query"], source["label"]) != ("datasource", "prometheus", "Data source"):
        yield "variable datasource must select a Prometheus and have the label Data source"
    for name, variable in list(variables.items())[1:]:
        if variable["type"] != "query" or variable["datasource"] != DATASOURCE:
            yield f"variable {name} must query the selected data source"
        if not (variable["multi"] and variable["includeAll"] and variable["allValue"] in (".+", ".*")):
            yield f"variable {name} must allow several values and All"
        if variable["refresh"] != 2:
            yield f"variable {name} must refresh when the time range changes"
        if not variable["label"]:
            yield f"variable {name} has no label"


def _row(row: Json) -> Iterator[str]:
    title = row.get("title", "")
    if not title:
        yield "a row has no title"
    if row["collapsed"] and not row["panels"]:
        yield f"row {title!r} is empty"
    if not row["collapsed"] and row["panels"]:
        yield f"row {title!r} is expanded: move its panels to the board"
    yield from _grid(row["panels"], f"row {title!r}")
    if any(panel["gridPos"]["y"] <= row["gridPos"]["y"] for panel in row["panels"]):
        yield f"row {title!r} has panels above itself"


def _grid(placed: list[Json], where: str) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in placed:
        grid, title = panel["gridPos"], panel.get("title", "")
        if grid["w"] < 1 or grid["h"] < 1 or grid["x"] < 0 or grid["y"] < 0 or grid["x"] + grid["w"] > 24:
            yield f"{title}: does not fit in the 24 columns"
        cells = [(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])]
        for other in sorted({taken[cell] for cell in cells if cell in taken}):
            yield f"{title}: overlaps {other} in {where}"
        taken.update((cell, title) for cell in cells)
    lines = {y for _, y in taken}
    if len(taken) != 24 * len(lines):
        yield f"{where} has gaps in the grid"


def _panel(panel: Json) -> Iterator[tuple[str, str]]:
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] not in KINDS:
        yield "type", f"type {panel['type']!r} is not one of {sorted(KINDS)}"
    if not panel.get("title"):
        yield "title", "no title"
    if len(panel.get("description", "")) < 15:
        yield "description", "needs a description of at least 15 characters"
    if panel.get("datasource") != DATASOURCE:
        yield "datasource", "must use the selected data source"
    units = [defaults.get("unit"), *(p["value"] for o in panel["fieldConfig"]["overrides"] for p in o["properties"])]
    for unit in units:
        if unit not in UNITS:
            yield "unit", f"unit {unit!r} is not one of {sorted(UNITS)}"
    if not defaults.get("noValue"):
        yield "no-value", "needs a noValue text, shown when there are no data"
    if panel["type"] == "timeseries":
        legend = panel["options"]["legend"]
        if legend["displayMode"] != "table" or legend["calcs"] != ["mean", "max", "lastNotNull"]:
            yield "legend", "the legend must be a table with mean, max and last"
    if panel["type"] == "stat" and len(panel["targets"]) != 1:
        yield "stat", "a stat must have one query"


def _targets(panel: Json) -> Iterator[tuple[str, str]]:
    targets = panel.get("targets", [])
    if not targets:
        yield "targets", "no query"
    refs = [target["refId"] for target in targets]
    if len(set(refs)) != len(refs):
        yield "targets", "refIds are not unique"
    for target in targets:
        if target.get("datasource") != DATASOURCE:
            yield "datasource", "a query must use the selected data source"
        if target["instant"] == target["range"]:
            yield "targets", "a query must be either instant or a range query"
        yield from ((rule, f"{message}: {target['expr']}") for rule, message in _expression(target["expr"]))
        quantile = "histogram_quantile(" in target["expr"]
        if target["exemplar"] != (quantile and panel["type"] == "timeseries"):
            yield "exemplar", "only latencies over time show exemplars"


def _expression(expr: str) -> Iterator[tuple[str, str]]:
    if expr.count("(") != expr.count(")"):
        yield "promql", "parentheses do not match"
    if not metrics_of(expr):
        yield "promql", "contains no metric"
    for selector in re.findall(r"(?<!\$)\{([^{}]*)\}", expr):
        for label in ("job", "instance"):
            if f'{label}=~"${label}"' not in selector:
                yield "matcher", f"a selector does not use the variable {label}"
    for window in re.findall(r"\[([^\]]*)\]", expr):
        if window != "$__rate_interval":
            yield "rate-interval", f"window {window} must be $__rate_interval, which follows zoom and scrape interval"
    for name in metrics_of(expr):
        counts = COUNTER.search(name) and name not in GAUGES
        used = re.findall(rf"(\w+\()?{re.escape(name)}\{{", expr)
        if counts and any(function not in COUNTER_FUNCTIONS for function in used):
            yield "counter", f"counter {name} without rate"
        if not counts and any(function in COUNTER_FUNCTIONS for function in used):
            yield "counter", f"rate of {name}, which is not a counter"
        if name.endswith("_bucket") and " le" not in expr and "(le" not in expr:
            yield "bucket", "buckets are aggregated without le"

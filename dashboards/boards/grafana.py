"""The parts of Grafana's dashboard model in use: small functions that return pieces of classic JSON (schema 42).

This module is independent of the metrics. It sets the options common to all panels (data source, legend, tooltip, the text of an
empty panel). `Board` assigns ids and positions, so a new panel is one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 42
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NO_VALUE = "no data"
TAG = "dichroic"

# ---- PromQL ----------------------------------------------------------------------------------------------------------------


def series(metric: str, *matchers: str) -> str:
    """The metric of the chosen jobs and instances, narrowed by more matchers."""
    chosen = ['job=~"$job"', 'instance=~"$instance"']
    return f"{metric}{{{','.join([*chosen, *matchers])}}}"


def rate(metric: str, *matchers: str) -> str:
    """Per-second rate over the window that Grafana derives from zoom and scrape interval."""
    return f"rate({series(metric, *matchers)}[$__rate_interval])"


def total(expression: str, by: str = "") -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def ratio(part: str, whole: str, by: str = "") -> str:
    """`part` of `whole`: 0 where there is no part, nothing where there is no whole."""
    whole = total(whole, by)
    return f"({total(part, by)} or {whole} * 0) / ({whole} > 0)"


def quantile(q: float, metric: str, by: str = "", *matchers: str) -> str:
    """The quantile over all series of a histogram that share the labels `by`."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q:g}, {total(rate(f'{metric}_bucket', *matchers), labels)})"


def mean(metric: str, by: str = "", *matchers: str) -> str:
    """The mean of a histogram's observations."""
    count = total(rate(f"{metric}_count", *matchers), by)
    return f"{total(rate(f'{metric}_sum', *matchers), by)} / ({count} > 0)"


@dataclass(frozen=True)
class Query:
    """One expression of a panel. `legend` is Grafana's legend format."""

    expr: str
    legend: str = ""
    exemplar: bool = False

    def target(self, place: int, *, instant: bool = False, format: str = "time_series") -> Json:
        return {
            "refId": chr(ord("A") + place),
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "legendFormat": self.legend or "__auto",
            "format": format,
            "instant": instant,
            "range": not instant,
            "exemplar": self.exemplar and not instant,
        }


def latency(metric: str, q: float, by: str, legend: str, *matchers: str) -> Query:
    """A quantile with exemplars, which link a point to its trace."""
    return Query(quantile(q, metric, by, *matchers), legend, exemplar=True)


# ---- panels ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A panel without its position. `width` is in columns of 24, `height` in grid rows."""

    body: Json
    width: int
    height: int


def _panel(kind: str, title: str, description: str, targets: Sequence[Json], *, width: int, height: int) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": list(targets),
        "transparent": False,
        "gridPos": {"w": width, "h": height},
    }


def _targets(queries: Query | Iterable[Query], *, instant: bool = False, format: str = "time_series") -> list[Json]:
    queries = [queries] if isinstance(queries, Query) else queries
    return [query.target(place, instant=instant, format=format) for place, query in enumerate(queries)]


def _steps(steps: Sequence[tuple[float | None, str]]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


GREEN = _steps([(None, "green")])


def warn_at(warning: float, critical: float) -> Json:
    """Thresholds of a value that should be low."""
    return _steps([(None, "green"), (warning, "orange"), (critical, "red")])


def warn_below(critical: float) -> Json:
    """Thresholds of a value that should be at least this."""
    return _steps([(None, "red"), (critical, "green")])


def timeseries(
    title: str,
    description: str,
    unit: str,
    queries: Query | Iterable[Query],
    *,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    thresholds: Json | None = None,
    maximum: float | None = None,
    no_value: str = NO_VALUE,
) -> Panel:
    """Lines over time, with mean, maximum and last value of each in the legend."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisPlacement": "auto",
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "noValue": no_value,
        "color": {"mode": "palette-classic"},
        "thresholds": thresholds or GREEN,
        "custom": custom,
    }
    if maximum is not None:
        defaults["max"] = maximum
    body = _panel("timeseries", title, description, _targets(queries), width=width, height=height)
    body["fieldConfig"] = {"defaults": defaults, "overrides": []}
    body["options"] = {
        "legend": {
            "showLegend": True,
            "displayMode": "table",
            "placement": "bottom",
            "calcs": ["mean", "max", "lastNotNull"],
            "sortBy": "Last *",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(body, width, height)


def stat(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 4,
    height: int = 4,
    thresholds: Json | None = None,
    no_value: str = NO_VALUE,
    shows_name: bool = False,
) -> Panel:
    """The current value with its recent history as a sparkline; with `shows_name`, the legend instead of the value."""
    # Grafana would show exemplars as additional values.
    query = replace(query, exemplar=False)
    body = _panel("stat", title, description, _targets(query, instant=shows_name), width=width, height=height)
    body["fieldConfig"] = {
        "defaults": {
            "unit": unit,
            "noValue": no_value,
            "color": {"mode": "thresholds"},
            "thresholds": thresholds or GREEN,
        },
        "overrides": [],
    }
    body["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "graphMode": "none" if shows_name else "area",
        "colorMode": "none" if thresholds is None else "value",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "name" if shows_name else "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return Panel(body, width, height)


def heatmap(title: str, description: str, metric: str, *matchers: str, width: int = 12, height: int = 8) -> Panel:
    """The distribution of a histogram in seconds over its buckets."""
    query = Query(total(rate(f"{metric}_bucket", *matchers), "le"), "{{le}}")
    body = _panel("heatmap", title, description, _targets(query, format="heatmap"), width=width, height=height)
    body["fieldConfig"] = {
        "defaults": {
            "unit": "s",
            "noValue": NO_VALUE,
            "custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}},
        },
        "overrides": [],
    }
    body["options"] = {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 64,
            "reverse": False,
        },
        "cellGap": 1,
        "cellValues": {"unit": "reqps"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    }
    return Panel(body, width, height)


def status(title: str, description: str, query: Query, *, width: int = 12, height: int = 8) -> Panel:
    """Up or down over time, one bar a series."""
    body = _panel("state-timeline", title, description, _targets(query), width=width, height=height)
    states = {
        "0": {"text": "down", "color": "red", "index": 0},
        "1": {"text": "up", "color": "green", "index": 1},
    }
    body["fieldConfig"] = {
        "defaults": {
            "unit": "none",
            "noValue": NO_VALUE,
            "color": {"mode": "thresholds"},
            "thresholds": warn_below(1),
            "mappings": [{"type": "value", "options": states}],
            "custom": {"fillOpacity": 70, "lineWidth": 0, "spanNulls": False},
        },
        "overrides": [],
    }
    body["options"] = {
        "showValue": "auto",
        "rowHeight": 0.9,
        "mergeValues": True,
        "alignValue": "left",
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return Panel(body, width, height)


@dataclass(frozen=True)
class Column:
    """A number of a table: its heading, query and unit."""

    heading: str
    expr: str
    unit: str = "short"


def table(
    title: str,
    description: str,
    columns: Sequence[Column],
    labels: dict[str, str],
    *,
    width: int = 12,
    height: int = 8,
    sort: str | None = None,
) -> Panel:
    """One row for each combination of `labels` (label: heading), one column for each query, with current values."""
    queries = [Query(column.expr) for column in columns]
    targets = _targets(queries, instant=True, format="table")
    body = _panel("table", title, description, targets, width=width, height=height)
    # Grafana names the value of a single query "Value"; with several queries it appends the refId.
    names = [f"Value #{target['refId']}" if len(columns) > 1 else "Value" for target in targets]
    order = [*labels, *names]
    body["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "__name__": True},
                "includeByName": {},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": {**labels, **{name: c.heading for name, c in zip(names, columns, strict=True)}},
            },
        },
    ]
    body["fieldConfig"] = {
        "defaults": {
            "unit": columns[0].unit,
            "noValue": NO_VALUE,
            "color": {"mode": "thresholds"},
            "thresholds": GREEN,
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
        },
        "overrides": [
            {
                "matcher": {"id": "byName", "options": column.heading},
                "properties": [{"id": "unit", "value": column.unit}],
            }
            for column in columns
        ],
    }
    first = sort or columns[0].heading
    body["options"] = {
        "showHeader": True,
        "cellHeight": "sm",
        "frameIndex": 0,
        "sortBy": [{"displayName": first, "desc": True}],
    }
    return Panel(body, width, height)


# ---- variables -------------------------------------------------------------------------------------------------------------


def datasource_variable() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "regex": "",
        "hide": 0,
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {"selected": False, "text": "default", "value": "default"},
        "skipUrlSync": False,
    }


def variable(name: str, label: str, selector: str, value_of: str, *, all_value: str = ".+") -> Json:
    """Values of a label, queried again when the time range changes. Multiple selection; all are selected at first."""
    query = f"label_values({selector}, {value_of})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": query,
        "regex": "",
        "hide": 0,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": all_value,
        "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "skipUrlSync": False,
    }


# ---- the board -------------------------------------------------------------------------------------------------------------


def annotation(name: str, expr: str, title: str, color: str) -> Json:
    """A mark on every panel where the expression has a value."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "15s",
        "titleFormat": title,
        "textFormat": "{{instance}}",
        "useValueForTime": False,
    }


@dataclass
class Board:
    """A dashboard under construction. Panels flow from left to right and wrap, in the order in which they are added."""

    uid: str
    title: str
    description: str
    variables: list[Json]
    annotations: list[Json] = field(default_factory=list)
    panels: list[Json] = field(default_factory=list)
    _next_id: int = 1
    _bottom: int = 0

    def add(self, *panels: Panel) -> None:
        """Adds panels below the existing ones."""
        self._bottom = self._place(self.panels, panels, self._bottom)

    def row(self, title: str, *panels: Panel, collapsed: bool = True) -> None:
        """A titled row; a collapsed row contains its panels."""
        body: Json = {
            "type": "row",
            "title": title,
            "collapsed": collapsed,
            "id": self._id(),
            "gridPos": {"x": 0, "y": self._bottom, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        self.panels.append(body)
        self._bottom += 1
        if collapsed:
            self._place(body["panels"], panels, self._bottom)
        else:
            self.add(*panels)

    def _place(self, into: list[Json], panels: Iterable[Panel], top: int) -> int:
        left, tallest = 0, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            grid = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            into.append({"id": self._id(), **panel.body, "gridPos": grid})
            left, tallest = left + panel.width, max(tallest, panel.height)
        return top + tallest

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def document(self) -> Json:
        own = {
            "name": "Annotations & Alerts",
            "builtIn": 1,
            "type": "dashboard",
            "datasource": {"type": "grafana", "uid": "-- Grafana --"},
            "enable": True,
            "hide": True,
            "iconColor": "rgba(0, 211, 255, 1)",
        }
        links = {
            "type": "dashboards",
            "title": "Dichroic",
            "tooltip": "Other dashboards of Dichroic, for the same time",
            "tags": [TAG],
            "asDropdown": False,
            "icon": "external link",
            "includeVars": False,
            "keepTime": True,
            "targetBlank": False,
            "url": "",
        }
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": "now-30m", "to": "now"},
            "timepicker": {},
            "refresh": "30s",
            "fiscalYearStartMonth": 0,
            "liveNow": False,
            "weekStart": "",
            "links": [links],
            "annotations": {"list": [own, *self.annotations]},
            "templating": {"list": self.variables},
            "panels": self.panels,
        }

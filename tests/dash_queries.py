"""Reads dashboards as Grafana does: panels, expanded variables, and the metrics in a query.

Source of the expansion: Grafana's documentation of variables and of the Prometheus data source ("Use the regex match operators
with multi-value variables", "$__rate_interval").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Any
DASHBOARDS = Path(__file__).resolve().parent.parent / "dashboards"
# In our dashboards a selector follows every metric.
_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)")


def dashboards() -> dict[str, Json]:
    """Every committed dashboard by uid."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]
    return {document["uid"]: document for document in documents}


def panels(document: Json) -> Iterator[Json]:
    """Panels with queries, also in collapsed rows."""
    for panel in document["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def query_variables(document: Json) -> list[Json]:
    return [v for v in document["templating"]["list"] if v["type"] == "query"]


def metrics_of(expr: str) -> set[str]:
    """Names of the metrics in an expression, without quoted text."""
    return set(_METRIC.findall(re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)))


def rate_interval(interval: float, scrape_interval: float) -> float:
    """Grafana's $__rate_interval: at least four scrape intervals, so that a window has two samples."""
    return max(interval + scrape_interval, 4 * scrape_interval)


def chosen(variable: Json, values: Sequence[str] | None) -> str:
    """The value of a variable: its "all" value, or a regular expression that matches any of the given values."""
    if values is None:
        return str(variable["allValue"])
    escaped = [re.sub(r"[\\^$*+?.()|{}\[\]/-]", lambda match: "\\\\" + match[0], value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def expand(text: str, values: Mapping[str, str], interval: float = 1.0, scrape_interval: float = 1.0) -> str:
    """Replaces every variable; a variable without a value is an error of the dashboard."""
    built_in = {"__rate_interval": f"{rate_interval(interval, scrape_interval):g}s", "__interval": f"{interval:g}s"}

    def value(match: re.Match[str]) -> str:
        return {**built_in, **values}[match[1] or match[2]]

    return _VARIABLE.sub(value, text)


def label_values(query: str) -> tuple[str, str]:
    """Selector and label of a variable's query."""
    match = _LABEL_VALUES.fullmatch(query)
    assert match, f"{query!r} is not label_values(selector, label)"
    return match[1], match[2]


def legend_labels(target: Json) -> set[str]:
    """Labels in a legend."""
    return set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))


def legend(target: Json, labels: Mapping[str, str]) -> str:
    """The legend of one series, as Grafana writes it."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"])


def table_labels(panel: Json) -> set[str]:
    """Labels that identify the rows of a table: the renamed columns without values."""
    organize = next(t for t in panel["transformations"] if t["id"] == "organize")
    return {name for name in organize["options"]["renameByName"] if not name.startswith("Value")}


def metrics_of_rule(expr: str) -> set[str]:
    """Names of the metrics in the expression of a rule, where the selector is optional."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    return {name for name in re.findall(r"\b[a-z_:][\w:]*\b(?!\s*\()", bare) if "_" in name or ":" in name or name == "up"}


def numbers(result: Sequence[Json]) -> list[float]:
    """Finite values of an instant or range result of Prometheus."""
    pairs = [pair for entry in result for pair in ([entry["value"]] if "value" in entry else entry["values"])]
    return [number for _, text in pairs if math.isfinite(number := float(text))]

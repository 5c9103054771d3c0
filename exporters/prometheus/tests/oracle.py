"""Reads both pages with the official Python parsers and compares their samples.

Usage: oracle.py (TEXT_PAGE OPENMETRICS_PAGE EXPECTED_DIFFERENCES)...

The differences are lines "text NAME" or "openmetrics NAME": samples that only this
page may have; "text *" allows any additional samples of the text page.
`_created` and exemplars are only in OpenMetrics. For other differences: exit code 1 and a line on stderr.
"""

import sys
from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

TYPES = {
    "untyped": "unknown",
    "info": "gauge",
    "stateset": "gauge",
    "gaugehistogram": "histogram",
}


Key = tuple[str, frozenset[tuple[str, Any]]]


def samples(families: Iterable[Metric]) -> tuple[dict[Key, str], dict[str, str]]:
    found: dict[Key, str] = {}
    types: dict[str, str] = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            if key in found:
                raise SystemExit(f"duplicate sample: {key}")
            found[key] = repr(float(sample.value))
            types[sample.name] = TYPES.get(family.type, family.type)
    return found, types


def agree(text_path: str, openmetrics_path: str, allowed_path: str) -> bool:
    with open(allowed_path, encoding="utf-8") as file:
        allowed = {tuple(line.split()) for line in file if line.strip()}
    with open(text_path, encoding="utf-8", newline="") as file:
        text, text_types = samples(read_text(file.read()))
    with open(openmetrics_path, encoding="utf-8", newline="") as file:
        openmetrics, openmetrics_types = samples(read_openmetrics(file.read()))  # type: ignore[no-untyped-call]
    differences = []
    for key in text.keys() - openmetrics.keys():
        if not {("text", key[0]), ("text", "*")} & allowed:
            differences.append(f"only in text: {key}")
    for key in openmetrics.keys() - text.keys():
        # The text parser adds `_total` to every counter that it reads.
        if (f"{key[0]}_total", key[1]) in text:
            continue
        if not key[0].endswith("_created") and ("openmetrics", key[0]) not in allowed:
            differences.append(f"only in OpenMetrics: {key}")
    for key in text.keys() & openmetrics.keys():
        if text[key] != openmetrics[key]:
            differences.append(f"{key}: {text[key]} and {openmetrics[key]}")
    for name in text_types.keys() & openmetrics_types.keys():
        pair = (text_types[name], openmetrics_types[name])
        # A format may split a family into samples of unknown type; `_gsum` and `_gcount` are separate families in text.
        if pair[0] != pair[1] and "unknown" not in pair and pair != ("gauge", "histogram"):
            differences.append(f"type of {name}: {pair}")
    for line in differences:
        print(f"{text_path}: {line}", file=sys.stderr)
    return not differences


if __name__ == "__main__":
    pages = sys.argv[1:]
    triples = [pages[at : at + 3] for at in range(0, len(pages), 3)]
    sys.exit(0 if all([agree(*triple) for triple in triples]) else 1)

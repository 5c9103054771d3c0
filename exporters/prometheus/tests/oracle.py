"""Reads both pages with the official Python parsers and compares what they hold.

Usage: oracle.py TEXT_PAGE OPENMETRICS_PAGE EXPECTED_DIFFERENCES

The differences are lines "text NAME" or "openmetrics NAME": sample names that only one page may hold. `_created` and exemplars are
only in OpenMetrics, as the format says. Exit code 1 and a line on stderr for anything else.
"""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

TYPES = {
    "untyped": "unknown",
    "info": "gauge",
    "stateset": "gauge",
    "gaugehistogram": "histogram",
}


def samples(families):
    found, types = {}, {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            if key in found:
                raise SystemExit(f"twice: {key}")
            found[key] = repr(float(sample.value))
            types[sample.name] = TYPES.get(family.type, family.type)
    return found, types


def main(text_path, openmetrics_path, allowed_path):
    with open(allowed_path, encoding="utf-8") as file:
        allowed = {tuple(line.split()) for line in file if line.strip()}
    with open(text_path, encoding="utf-8", newline="") as file:
        text, text_types = samples(read_text(file.read()))
    with open(openmetrics_path, encoding="utf-8", newline="") as file:
        openmetrics, openmetrics_types = samples(read_openmetrics(file.read()))
    wrong = []
    for key in text.keys() - openmetrics.keys():
        if ("text", key[0]) not in allowed:
            wrong.append(f"only in text: {key}")
    for key in openmetrics.keys() - text.keys():
        if not key[0].endswith("_created") and ("openmetrics", key[0]) not in allowed:
            wrong.append(f"only in OpenMetrics: {key}")
    for key in text.keys() & openmetrics.keys():
        if text[key] != openmetrics[key]:
            wrong.append(f"{key}: {text[key]} and {openmetrics[key]}")
    for name in text_types.keys() & openmetrics_types.keys():
        pair = (text_types[name], openmetrics_types[name])
        # A counter without `_total` is unknown in OpenMetrics; `_gsum` and `_gcount` are families of their own in text.
        if pair[0] != pair[1] and pair not in {("counter", "unknown"), ("gauge", "histogram")}:
            wrong.append(f"type of {name}: {pair}")
    if not text or not openmetrics:
        wrong.append("an empty page")
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(text)} samples in text, {len(openmetrics)} in OpenMetrics")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

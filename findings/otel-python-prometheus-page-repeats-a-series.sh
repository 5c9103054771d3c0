#!/usr/bin/env bash
# Software: opentelemetry-exporter-prometheus 0.66b2 and prometheus-client 0.26.0 (Python).
# Guess:    attributes `http.route` and `http_route` are told apart on the page, or their series are added up: the exporter writes one
#           line for each set of labels.
# Seen:     both become the label `http_route`. The page has two lines with equal names and labels and different values. On one series
#           that has both attributes, one value is left out, where the OpenTelemetry specification joins them by a semicolon.
# Matters:  Prometheus keeps one of two equal lines and counts the other as a duplicate, so a total is too low. It happens while a
#           program moves from one attribute convention to another.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install \
  opentelemetry-sdk==1.45.2 opentelemetry-exporter-prometheus==0.66b2 prometheus-client==0.26.0 || exit 2
"$dir/venv/bin/python" - <<'PY'
import sys

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

counter = MeterProvider([PrometheusMetricReader()]).get_meter("app").create_counter("calls")
counter.add(1, {"http.route": "/a"})
counter.add(2, {"http_route": "/a"})
counter.add(4, {"http.route": "/b", "http_route": "/c"})
samples = [
    (sample.labels["http_route"], sample.value)
    for family in text_string_to_metric_families(generate_latest().decode())
    for sample in family.samples
    if sample.name == "calls_total"
]
print(f"samples of calls_total, as (http_route, value): {samples}")
sys.exit(0 if sorted(samples) == [("/a", 1.0), ("/a", 2.0), ("/c", 4.0)] else 1)
PY

#!/usr/bin/env bash
# Software: opentelemetry-sdk 1.45.2 and opentelemetry-exporter-otlp-proto-common 1.45.2 (Python).
# Guess:    an attribute that protobuf cannot hold (a file name with a byte that is not UTF-8, as `os.listdir` returns it; an integer
#           of more than 64 bits) is replaced, or its data point is not exported.
# Seen:     the attribute alone is left out. Series that differ only in it arrive as several points of one identity in one request,
#           next to the series that never had the attribute.
# Matters:  a receiver must either keep one of the values or take them for one series that jumps. The sum of the series is not on the wire
#           under any identity.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install \
  opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-common==1.45.2 || exit 2
"$dir/venv/bin/python" - <<'PY'
import logging, os, sys

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

logging.disable(logging.CRITICAL)
reader = InMemoryMetricReader()
counter = MeterProvider([reader]).get_meter("app").create_counter("files.read")
counter.add(1, {"name": os.fsdecode(b"caf\xe9")})
counter.add(2, {"name": os.fsdecode(b"caf\xe8")})
counter.add(4)
request = encode_metrics(reader.get_metrics_data())
points = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
seen = sorted((point.as_int, len(point.attributes)) for point in points)
print(f"(value, number of attributes) of the points sent: {seen}")
sys.exit(0 if seen == [(1, 0), (2, 0), (4, 0)] else 1)
PY

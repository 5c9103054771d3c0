#!/usr/bin/env bash
# Software: prometheus-client 0.26.0 (Python).
# Guess:    `Histogram.observe(float("nan"))` is refused, or it counts: one more in `_count` and in the bucket `+Inf`.
# Seen:     no bucket and no count changes, but the sum becomes NaN and stays NaN until the process restarts. A Summary in the same
#           library counts the same observation.
# Matters:  `rate(x_sum[5m]) / rate(x_count[5m])` is NaN from one observation on, while the quantiles look healthy and the count gives no
#           hint when it happened.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install prometheus-client==0.26.0 || exit 2
"$dir/venv/bin/python" - <<'PY'
import math, sys

from prometheus_client import CollectorRegistry, Histogram, Summary

registry = CollectorRegistry()
seen = {}
for kind in (Histogram("latency", "Latency.", registry=registry), Summary("size", "Size.", registry=registry)):
    for value in (1.0, float("nan"), 2.0):
        kind.observe(value)
    samples = {sample.name: sample.value for sample in kind.collect()[0].samples if "le" not in sample.labels}
    name = kind._name
    seen[name] = samples[f"{name}_count"], samples[f"{name}_sum"]
print(f"(count, sum) after 1, NaN, 2: {seen}")
as_described = seen["latency"][0] == 2 and seen["size"][0] == 3 and all(math.isnan(value[1]) for value in seen.values())
sys.exit(0 if as_described else 1)
PY

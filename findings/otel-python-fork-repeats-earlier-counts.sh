#!/usr/bin/env bash
# Software: opentelemetry-sdk 1.45.2 (Python), as in a server that loads its application before it forks workers.
# Guess:    a forked worker starts to count at zero, or the workers share the identity of their parent.
# Seen:     each worker has a service.instance.id of its own, and its counters go on from what the parent had counted before the fork,
#           with the start time of the parent. What was counted once is in the sum over all instances once for each process.
# Matters:  calls at import time (caches filled, migrations, health checks) are multiplied by the number of workers. No receiver can
#           see it: every series is a well-formed cumulative total of another instance.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install opentelemetry-sdk==1.45.2 || exit 2
"$dir/venv/bin/python" - <<'PY'
import json, os, sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
provider = MeterProvider([reader])
counter = provider.get_meter("app").create_counter("loads")
counter.add(5)  # before the workers exist


def exported() -> tuple[str, int, int]:
    resource = reader.get_metrics_data().resource_metrics[0]
    point = resource.scope_metrics[0].metrics[0].data.data_points[0]
    return resource.resource.attributes["service.instance.id"], point.start_time_unix_nano, point.value


read, write = os.pipe()
for work in (1, 2):
    if os.fork() == 0:
        counter.add(work)
        os.write(write, (json.dumps(exported()) + "\n").encode())
        os._exit(0)
for _ in range(2):
    os.wait()
os.close(write)
with os.fdopen(read) as lines:
    seen = [exported(), *(tuple(json.loads(line)) for line in lines)]
instances, starts, values = (set(column) for column in zip(*seen))
total = sum(value for *_, value in seen)
print(f"instances: {len(instances)}, start times: {len(starts)}, values: {sorted(values)}; counted 8, exported in all {total}")
sys.exit(0 if (len(instances), len(starts), sorted(values), total) == (3, 1, [5, 6, 7], 18) else 1)
PY

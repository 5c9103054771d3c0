#!/usr/bin/env bash
# Software: opentelemetry-sdk 1.45.2 and opentelemetry-exporter-otlp-proto-http 1.45.2 (Python).
# Guess:    a counter that grows beyond a signed 64-bit integer loses that one point. The other metrics of the program are still exported.
# Seen:     the encoder raises for the whole batch. The counter is cumulative, so every later export fails as well: the program sends
#           nothing until it restarts. `force_flush()` returns True all the while.
# Matters:  a byte counter of one library silences all metrics of a service, and the receiver sees only that it went quiet. Python
#           integers have no upper bound, so nothing before the encoder notices.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install \
  opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 || exit 2
"$dir/venv/bin/python" - <<'PY'
import http.server, logging, sys, threading

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

logging.disable(logging.CRITICAL)
requests = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
exporter = OTLPMetricExporter(f"http://127.0.0.1:{server.server_port}/v1/metrics")
provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
meter = provider.get_meter("app")
handled, sent = meter.create_counter("requests"), meter.create_counter("bytes")

handled.add(1)
sent.add(2**62)
provider.force_flush()
before = len(requests)
sent.add(2**62)  # the sum is 2^63, one more than int64 holds
flushed = []
for _ in range(3):
    handled.add(1)
    flushed.append(provider.force_flush())
after = len(requests)
print(f"requests before the counter passed 2^63 - 1: {before}; in three exports after it: {after - before}; force_flush: {flushed}")
sys.exit(0 if (before, after, flushed) == (1, 1, [True] * 3) else 1)
PY

"""An embedding worker, instrumented with prometheus_client: the collector scrapes it.

    python embedder.py PORT

Serves metrics on 127.0.0.1:PORT (0: a free port, which it prints) and processes simulated batches until it is stopped.
"""

import random
import sys
import time

from prometheus_client import Counter, Gauge, Histogram, start_http_server

TEXTS = Counter("embedder_texts", "Texts embedded.", ["model"])
FAILURES = Counter("embedder_failures", "Batches that failed.", ["model", "reason"])
QUEUE = Gauge("embedder_queue_length", "Batches waiting.")
DURATION = Histogram("embedder_batch_duration_seconds", "Time for one batch.", ["model"])


def batch(model: str, seconds: float) -> None:
    """One batch: usually takes about `seconds`, sometimes much longer; some fail with out_of_memory."""
    with DURATION.labels(model).time():
        time.sleep(random.lognormvariate(0, 0.4) * seconds)
    if random.random() < 0.02:
        FAILURES.labels(model, "out_of_memory").inc()
    else:
        TEXTS.labels(model).inc(random.randint(8, 32))


def main() -> None:
    server, _thread = start_http_server(int(sys.argv[1]), addr="127.0.0.1")
    print(f"page on http://127.0.0.1:{server.server_port}/metrics", flush=True)
    while True:
        QUEUE.set(random.randint(0, 12))
        batch("minilm", 0.02)
        batch("e5-large", 0.05)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass

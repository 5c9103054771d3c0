"""The actors of a system test, one module per subject: processes, the collector, Erlang, the demo's programs, Prometheus.

Every actor runs a real program on loopback and is a context manager: entering it starts the program and waits until it serves;
leaving it ends that process. Listeners take free ports. Tests do not sleep for a fixed time: `wait_until` polls a condition
until a deadline, and reports the last value when the deadline passes.

    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector, Shop(collector) as shop:
        wait_until(lambda: "http_server_request_duration_seconds" in collector.metrics(), 20, "requests of the shop")
"""

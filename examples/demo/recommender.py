"""A recommendation service, instrumented with opentelemetry-sdk: it pushes metrics and logs as OTLP.

    python recommender.py ENDPOINT

ENDPOINT is an OTLP/HTTP endpoint such as http://127.0.0.1:4318. Its server metric has the name, unit and bounds of the semantic
conventions, so it is the same metric as that of a Phoenix endpoint.
"""

import logging
import random
import sys
import time

from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]


def main() -> None:
    endpoint = sys.argv[1].rstrip("/")
    resource = Resource.create({"service.name": "recommender", "service.namespace": "shop"})
    exporter = OTLPMetricExporter(f"{endpoint}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1_000)
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{endpoint}/v1/logs"), schedule_delay_millis=500))
    set_logger_provider(loggers)
    log = logging.getLogger("recommender")
    log.setLevel(logging.INFO)
    log.addHandler(LoggingHandler(logger_provider=loggers))
    print(f"pushing OTLP to {endpoint}", flush=True)
    try:
        serve(meters.get_meter("recommender"), log)
    finally:
        meters.shutdown()
        loggers.shutdown()


def serve(meter, log: logging.Logger) -> None:
    duration = meter.create_histogram(
        "http.server.request.duration", "s", "Duration of HTTP server requests.", explicit_bucket_boundaries_advisory=BOUNDS
    )
    candidates = meter.create_counter("recommender.candidates", "{item}", "Items ranked.")
    active = meter.create_up_down_counter("recommender.active", "{request}", "Requests in progress.")
    while True:
        active.add(1)
        seconds = random.lognormvariate(-3.6, 0.5)
        time.sleep(seconds)
        status = 503 if random.random() < 0.02 else 200
        attributes = {
            "http.request.method": "POST",
            "http.response.status_code": status,
            "http.route": "/recommend",
            "url.scheme": "http",
        }
        duration.record(seconds, attributes)
        candidates.add(random.randint(20, 200), {"model": "two-tower"})
        active.add(-1)
        if status != 200:
            log.warning("model is overloaded", extra={"queue": random.randint(10, 50)})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass

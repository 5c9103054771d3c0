"""Subscribers that read nothing: their memory is bounded together, losses are counted, and the health check answers."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import Any

from harness.collector import Collector
from harness.process import wait_until

SUBSCRIBERS = 60
LIMIT = 64 << 20
RECORDS = 50


def stream(collector: Collector, query: str) -> socket.socket:
    host, port = collector.admin.removeprefix("http://").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def send_logs(collector: Collector) -> None:
    record = {"severityNumber": 17, "body": {"stringValue": "x" * 4_000}}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {"severityNumber": 9}] * (RECORDS // 2)}]}]}
    connection = http.client.HTTPConnection(collector.otlp_http.removeprefix("http://"), timeout=60)
    with closing(connection):
        connection.request("POST", "/v1/logs", json.dumps(logs), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200


def check_health(collector: Collector) -> None:
    connection = http.client.HTTPConnection(collector.admin.removeprefix("http://"), timeout=60)
    with closing(connection):
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def subscribers(collector: Collector) -> Any:
    return next(part for part in collector.ledger()["in_flight"]["parts"] if part["part"] == "subscribers")


def test_stalled_subscribers_share_a_bounded_memory_and_health_answers() -> None:
    config = {"limits": {"in_flight": "64MiB", "replay_bytes": "1MiB"}, "receivers": {"otlp": {"max_request": "8MiB"}}}
    with Collector(config=config) as collector:
        stalled = [stream(collector, "kind=log&match=**&where=severity:17") for _ in range(SUBSCRIBERS)]
        wait_until(lambda: subscribers(collector)["bytes"] > 0, 60, "the subscribers' memory")
        for _ in range(300):
            send_logs(collector)
            check_health(collector)
        account = subscribers(collector)
        assert 0 < account["peak_bytes"] <= LIMIT // 2
        assert sum(account["refused"].values()) > 0
        assert "dichroic_in_flight_refused_total" in collector.metrics()
        for connection in stalled:
            connection.close()
        wait_until(lambda: subscribers(collector)["bytes"] == 0, 60, "the end of the subscriptions")

"""Responses and access control of the two HTTP listeners."""

import gzip
import json
import urllib.request

import pytest
from harness.collector import Collector
from harness.process import http_get

TOKEN = "correct horse battery staple"


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.mark.parametrize(
    ("path", "status"),
    [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/", 404), ("/api/v1/ledger", 404), ("/v1/stream", 404)],
)
def test_the_page_listener_serves_only_pages_and_health(collector, path, status):
    assert http_get(f"http://{collector.prometheus}{path}")[0] == status


@pytest.mark.parametrize("path", ["/", "/api/v1/catalog", "/api/v1/ledger", "/api/v1/sources", "/metrics", "/healthz"])
def test_the_admin_listener_serves_what_its_index_lists(collector, path):
    assert http_get(f"http://{collector.admin}{path}")[0] == 200


def test_a_request_for_another_host_is_refused(collector):
    status, body = http_get(f"http://{collector.admin}/api/v1/ledger", {"Host": "evil.example"})
    assert status == 403
    assert "security.allowed_hosts" in body


def test_only_get_is_allowed(collector):
    request = urllib.request.Request(f"http://{collector.admin}/api/v1/ledger", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 405
    assert refused.value.headers["Allow"] == "GET, HEAD"


def test_a_configured_token_is_required():
    with Collector(config={"admin": {"token": TOKEN}}) as collector:
        url = f"http://{collector.admin}/api/v1/ledger"
        assert http_get(url)[0] == 401
        assert http_get(url, {"Authorization": "Bearer wrong"})[0] == 401
        assert http_get(url, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert TOKEN not in collector.output()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("image/png", "text/plain; version=0.0.4"),
    ],
)
def test_the_page_has_the_format_of_the_accept_header(collector, accept, content_type):
    request = urllib.request.Request(f"http://{collector.prometheus}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith(content_type)


def test_a_page_is_compressed_on_request(collector):
    request = urllib.request.Request(f"http://{collector.prometheus}/metrics", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"dichroic_build_info" in gzip.decompress(answer.read())


def test_the_http_stream_starts_with_a_hello_and_a_bad_query_names_its_parameter(collector):
    status, body = http_get(f"http://{collector.admin}/v1/stream?format=parquet")
    assert status == 400
    assert "format" in body
    with urllib.request.urlopen(f"http://{collector.admin}/v1/stream?format=ndjson&match=**", timeout=60) as answer:
        assert json.loads(answer.readline())["type"] == "hello"


def test_sigterm_shuts_down_in_order_and_removes_the_files():
    with Collector() as collector:
        socket, ready = collector.socket, collector.ready_file
        assert socket.exists()
        assert collector.stop() == 0
        assert not socket.exists()
        assert not ready.exists()

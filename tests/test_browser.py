"""Web pages of other sites in a browser on this machine: they neither read, nor post, nor subscribe."""

import json
from collections.abc import Iterator

import pytest
from actors import total
from harness.browser import Site, browse
from harness.collector import Collector
from harness.process import http_get, wait_until

METRICS = {
    "resourceMetrics": [
        {
            "scopeMetrics": [
                {"metrics": [{"name": "planted", "gauge": {"dataPoints": [{"asInt": "1", "timeUnixNano": "1790000000000000000"}]}}]}
            ]
        }
    ]
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def refused(collector: Collector, listener: str, reason: str) -> float:
    return total(collector.metrics(), "dichroic_connections_refused_total", listener=listener, reason=reason)


def requests_refused(collector: Collector, reason: str) -> float:
    requests = [one for one in collector.ledger()["requests"] if one["transport"] == "http"]
    return sum(one["refused"].get(reason, 0) for one in requests)


def send(script: str) -> str:
    """A script that reports whether a request has a readable response."""
    return f"""
        let result;
        try {{ const response = await {script}; result = {{ type: response.type, status: response.status }}; }}
        catch (error) {{ result = {{ error: String(error) }}; }}
        await fetch('/result', {{ method: 'POST', body: JSON.stringify(result) }});
    """


def test_another_site_cannot_post_metrics(collector: Collector):
    body = json.dumps(json.dumps(METRICS))
    request = f"fetch('{collector.otlp_http}/v1/metrics', {{ method: 'POST', mode: 'no-cors', body: {body} }})"
    with Site(send(request)) as site:
        result = site.visit()
    assert result.get("status", 0) == 0, result
    wait_until(lambda: requests_refused(collector, "cross_site") >= 1, 20, "the refused request")
    assert "planted" not in collector.metrics()


def test_another_site_cannot_subscribe(collector: Collector):
    before = refused(collector, "admin", "cross_site")
    request = f"fetch('http://{collector.admin}/v1/stream?match=**', {{ mode: 'no-cors' }})"
    with Site(send(request)) as site:
        site.visit()
    wait_until(lambda: refused(collector, "admin", "cross_site") > before, 20, "the refused request")
    assert collector.sources()["subscribers"] == []
    assert '"listener":"admin","reason":"cross_site"' in collector.output()


def test_another_site_cannot_embed_the_page(collector: Collector):
    before = refused(collector, "prometheus", "cross_site")
    page = f"http://{collector.prometheus}/metrics"
    image = f"new Promise(done => {{ const image = new Image(); image.onerror = done; image.src = '{page}'; }})"
    with Site(send(image)) as site:
        site.visit()
    wait_until(lambda: refused(collector, "prometheus", "cross_site") > before, 20, "the refused request")


def test_a_rebound_name_reads_nothing(collector: Collector):
    port = collector.prometheus.rpartition(":")[2]
    shown = browse(f"http://rebound.example:{port}/metrics")
    assert "security.allowed_hosts" in shown, shown
    assert "dichroic_build_info" not in shown
    wait_until(lambda: refused(collector, "prometheus", "host") >= 1, 20, "the refused request")
    assert "dichroic_build_info" in browse(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize("listener", ["prometheus", "admin", "otlp"])
def test_a_name_is_accepted_where_it_is_allowed(collector: Collector, listener: str):
    def answer(of: Collector, host: str) -> int:
        url = f"{of.otlp_http}/v1/metrics" if listener == "otlp" else f"http://{getattr(of, listener)}/metrics"
        return http_get(url, {"Host": host})[0]

    # OTLP takes only POST.
    accepted = 405 if listener == "otlp" else 200
    assert answer(collector, "dichroic:9464") == 403
    with Collector(config={"security": {"allowed_hosts": ["dichroic"]}}) as named:
        assert answer(named, "dichroic:9464") == accepted
        assert answer(named, "dichroic.evil.example") == 403
        assert answer(named, "localhost") == accepted


def test_beyond_loopback_every_address_and_allowed_names_are_accepted():
    config = {
        "exporters": {"prometheus": {"listen": "0.0.0.0:0"}},
        "receivers": {"otlp": {"http": "0.0.0.0:0"}},
        "security": {"allow_non_loopback": True, "allowed_hosts": ["dichroic"]},
    }
    with Collector(config=config) as collector:
        page = f"http://127.0.0.1:{collector.prometheus.rpartition(':')[2]}"
        for host, status in [("10.1.2.3:9464", 200), ("[2001:db8::1]:9464", 200), ("dichroic:9464", 200), ("evil.example", 403)]:
            # As the kubelet's probes, a Prometheus in the cluster, and a compose service do.
            for path in ["/metrics", "/healthz", "/readyz"]:
                assert http_get(page + path, {"Host": host})[0] == status, (host, path)
        otlp = f"http://127.0.0.1:{collector.otlp_http.rpartition(':')[2]}/v1/metrics"
        assert http_get(otlp, {"Host": "10.1.2.3"})[0] == 405
        assert http_get(otlp, {"Host": "evil.example"})[0] == 403


def test_a_token_guards_every_name():
    token = "correct horse battery staple"
    with Collector(config={"admin": {"token": token}}) as collector:
        url = f"http://{collector.admin}/api/v1/ledger"
        assert http_get(url, {"Host": "any.example", "Authorization": f"Bearer {token}"})[0] == 200
        assert http_get(url, {"Host": "any.example"})[0] == 401

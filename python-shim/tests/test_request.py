"""Arguments of `subscribe` and `connect`, and the messages for invalid ones."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import dichroic
from dichroic import _address
from dichroic._address import Address, socket_paths
from dichroic._http import stream_request
from dichroic._request import Request, milliseconds

DURATIONS: list[tuple[Any, int]] = [
    ("30s", 30_000),
    ("250ms", 250),
    ("1.5m", 90_000),
    ("1h", 3_600_000),
    (2, 2_000),
    (0.25, 250),
    (timedelta(minutes=1), 60_000),
]


@pytest.mark.parametrize(("duration", "expected"), DURATIONS)
def test_durations_are_milliseconds_on_the_wire(duration: Any, expected: int) -> None:
    assert milliseconds(duration, "replay") == expected


@pytest.mark.parametrize("duration", ["30", "s", "-1s", "1 day", "", -1, float("nan"), "2000h", None, True, []])
def test_an_invalid_duration_is_rejected(duration: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="replay"):
        milliseconds(duration, "replay")


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"patterns": ()}, "no pattern"),
    ({"patterns": ("a",) * 65}, "at most 64"),
    ({"patterns": ("",)}, "1 to 256 bytes"),
    ({"patterns": ("é" * 129,)}, "1 to 256 bytes"),
    ({"patterns": (1,)}, "a pattern must be a string"),
    ({"patterns": ("a..b",)}, "empty segment"),
    ({"patterns": (".a",)}, "empty segment"),
    ({"patterns": ("a.b**",)}, "must be a whole segment"),
    ({"patterns": ("a.***",)}, "must be a whole segment"),
    ({"patterns": ("a.[bc]",)}, r"unsupported \[, \]; the wildcards are"),
    ({"patterns": ("a.{b,c}",)}, "unsupported {, }"),
    ({"patterns": ("a.?",)}, r"unsupported \?"),
    ({"patterns": ("**", " a")}, "white space around it"),
    ({"kind": "metric", "replay": "1m"}, "has no replay"),
    ({"replay": 0}, "at least 1 ms"),
    ({"kind": "metric", "every": "0s"}, "at least 1 ms"),
    ({"every": 1.0}, 'every applies to kind="metric"'),
    ({"kind": "trace"}, "'trace': expected one of 'event', 'metric', 'log'"),
    ({"on_gap": "ignore"}, "one of 'warn', 'yield', 'raise'"),
    ({"on_full": "block"}, "one of 'drop_oldest'"),
    ({"buffer": 63}, "expected 64 to 1048576"),
    ({"buffer": 1 << 21}, "expected 64 to 1048576"),
    ({"sample": 0.0}, "above 0 and at most 1"),
    ({"sample": 1.5}, "above 0 and at most 1"),
    ({"sample": 0.5, "kind": "metric"}, "sample applies to events and logs"),
    ({"within": 1.0, "kind": "metric"}, "within applies to events and logs"),
    ({"within": "11s"}, "expected 0 to 10 s"),
    ({"within": "5us"}, "invalid duration within='5us'"),
    ({"where": {str(n): "x" for n in range(17)}}, "at most 16"),
    ({"where": {"a": [None]}}, "where\\['a'\\] must be a pattern"),
    ({"where": {"a": []}}, "no pattern"),
    ({"kind": "metric", "cursor": (1, 2, 3)}, "has no cursor"),
]


@pytest.mark.parametrize(("arguments", "message"), INVALID)
def test_an_invalid_subscription_is_rejected_before_anything_is_sent(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Request(**{"patterns": ("**",), **arguments})


def test_values_of_where_are_rendered_as_text() -> None:
    request = Request(("**",), where={"ok": True, "status": [404, "5*"], "share": 0.5})
    assert request.fields["where"] == {"ok": ["true"], "status": ["404", "5*"], "share": ["0.5"]}


@pytest.mark.parametrize(("within", "expected"), [("5ms", 5), (0, 0), (0.25, 250), ("10s", 10_000)])
def test_the_time_that_rows_may_wait_is_sent_in_milliseconds(within: Any, expected: int) -> None:
    assert Request(("**",), within=within).fields["within_ms"] == expected
    assert "within_ms" not in Request(("**",)).fields


ADDRESSES = [
    ("unix:///run/x.sock", "unix:///run/x.sock", None),
    ("unix:/run/x.sock", "unix:///run/x.sock", None),
    ("/run/x.sock", "unix:///run/x.sock", None),
    ("tcp://127.0.0.1:4319?token=t", "tcp://127.0.0.1:4319", "t"),
    ("tcp://[::1]:4319?token=t", "tcp://[::1]:4319", "t"),
    ("http://localhost", "http://localhost:9465", None),
    ("http://localhost:80", "http://localhost:80", None),
]


@pytest.mark.parametrize(("address", "endpoint", "token"), ADDRESSES)
def test_addresses(address: str, endpoint: str, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICHROIC_TOKEN", raising=False)
    parsed = Address.parse(address)
    assert (str(parsed.endpoint), parsed.token) == (endpoint, token)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:1", "missing token"),
        ("tcp://127.0.0.1", "missing host or port"),
        ("http://", "missing host"),
        ("ftp://x", "expected unix://"),
    ],
)
def test_an_invalid_address_is_rejected(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICHROIC_TOKEN", raising=False)
    with pytest.raises(ValueError, match=message):
        dichroic.connect(address)


def test_the_socket_variable_replaces_the_default_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("DICHROIC_SOCKET", "/x.sock")
    assert socket_paths() == ["/x.sock"]
    monkeypatch.delenv("DICHROIC_SOCKET")
    monkeypatch.setattr(_address, "_is_trusted", lambda directory: True)
    private = f"/tmp/dichroic-{os.geteuid()}/dichroic.sock"
    assert socket_paths() == ["/run/dichroic/dichroic.sock", "/run/user/1/dichroic.sock", private]


def test_a_directory_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _address._is_trusted(str(tmp_path))
    assert _address._is_trusted(str(tmp_path / "absent"))
    monkeypatch.setattr("os.geteuid", lambda: os.stat(tmp_path).st_uid + 12_345)
    monkeypatch.setattr("os.lstat", lambda path: type("Stat", (), {"st_uid": 77})())
    assert not _address._is_trusted(str(tmp_path))


def test_the_http_request_has_every_key_of_the_subscription() -> None:
    endpoint = Address.parse("http://localhost:9465").endpoint
    assert endpoint is not None
    request = Request(("a.**", "b"), where={"status": ["5*", 404]}, replay="30s", cursor=(1, 2, 3))
    head = stream_request(endpoint, "secret", request.fields).decode().split("\r\n")
    assert head[0] == (
        "GET /v1/stream?format=frames&kind=event&match=a.%2A%2A&match=b&buffer=8192&on_full=drop_oldest"
        "&where.status=5%2A&where.status=404&replay_ms=30000&cursor=1%2C2%2C3 HTTP/1.1"
    )
    assert "Host: localhost:9465" in head
    assert "Accept: application/vnd.dichroic.frames; version=1; minor=1" in head
    assert "Authorization: Bearer secret" in head
    assert head[-2:] == ["", ""]

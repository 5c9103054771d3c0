"""What `subscribe` and `connect` accept, and the words with which they refuse the rest."""

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
def test_what_is_no_duration_is_refused(duration: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="replay"):
        milliseconds(duration, "replay")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"patterns": ()}, "at least one pattern"),
    ({"patterns": ("a",) * 65}, "at most 64"),
    ({"patterns": ("",)}, "1 to 256 bytes"),
    ({"patterns": ("é" * 129,)}, "1 to 256 bytes"),
    ({"patterns": (1,)}, "a pattern is a string"),
    ({"kind": "trace"}, "'trace' is none of 'event', 'metric', 'log'"),
    ({"on_gap": "ignore"}, "none of 'warn', 'yield', 'raise'"),
    ({"on_full": "block"}, "none of 'drop_oldest'"),
    ({"buffer": 63}, "from 64 to 1048576"),
    ({"buffer": 1 << 21}, "from 64 to 1048576"),
    ({"sample": 0.0}, "above 0 and at most 1"),
    ({"sample": 1.5}, "above 0 and at most 1"),
    ({"sample": 0.5, "kind": "metric"}, "sample is of events and logs"),
    ({"where": {str(n): "x" for n in range(17)}}, "at most 16"),
    ({"where": {"a": [None]}}, "where\\['a'\\] is a pattern"),
    ({"where": {"a": []}}, "at least one pattern"),
    ({"kind": "metric", "cursor": (1, 2, 3)}, "points have no cursor"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_bad_subscription_is_refused_before_anything_is_sent(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Request(**{"patterns": ("**",), **arguments})


def test_where_is_rendered_as_patterns_see_it() -> None:
    request = Request(("**",), where={"ok": True, "status": [404, "5*"], "share": 0.5})
    assert request.fields["where"] == {"ok": ["true"], "status": ["404", "5*"], "share": ["0.5"]}


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
    ("address", "words"),
    [
        ("tcp://127.0.0.1:1", "wants a token"),
        ("tcp://127.0.0.1", "lacks a host or port"),
        ("http://", "lacks a host"),
        ("ftp://x", "use unix://"),
    ],
)
def test_what_is_no_address_is_refused(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICHROIC_TOKEN", raising=False)
    with pytest.raises(ValueError, match=words):
        dichroic.connect(address)


def test_a_named_socket_is_the_only_place_and_otherwise_the_list_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("DICHROIC_SOCKET", "/x.sock")
    assert socket_paths() == ["/x.sock"]
    monkeypatch.delenv("DICHROIC_SOCKET")
    monkeypatch.setattr(_address, "_is_ours", lambda directory: True)
    private = f"/tmp/dichroic-{os.geteuid()}/dichroic.sock"
    assert socket_paths() == ["/run/dichroic/dichroic.sock", "/run/user/1/dichroic.sock", private]


def test_a_directory_of_somebody_else_is_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _address._is_ours(str(tmp_path))
    assert _address._is_ours(str(tmp_path / "absent"))
    monkeypatch.setattr("os.geteuid", lambda: os.stat(tmp_path).st_uid + 12_345)
    monkeypatch.setattr("os.lstat", lambda path: type("Stat", (), {"st_uid": 77})())
    assert not _address._is_ours(str(tmp_path))


def test_the_request_over_http_has_every_key_of_the_subscription() -> None:
    endpoint = Address.parse("http://localhost:9465").endpoint
    assert endpoint is not None
    request = Request(("a.**", "b"), where={"status": ["5*", 404]}, replay="30s", cursor=(1, 2, 3))
    head = stream_request(endpoint, "secret", request.fields).decode().split("\r\n")
    assert head[0] == (
        "GET /v1/stream?format=frames&kind=event&match=a.%2A%2A&match=b&buffer=8192&on_full=drop_oldest"
        "&where.status=5%2A&where.status=404&replay_ms=30000&cursor=1%2C2%2C3 HTTP/1.1"
    )
    assert "Host: localhost:9465" in head
    assert "Authorization: Bearer secret" in head
    assert head[-2:] == ["", ""]

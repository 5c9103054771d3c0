"""Static types of subscriptions: mypy checks this module; its functions under TYPE_CHECKING are never called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dichroic
from dichroic import Event, Gap, Log, Point, Subscription, SyncSubscription

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from typing_extensions import assert_type

    def subscriptions_have_the_type_of_their_items(client: dichroic.Client, blocking: dichroic.SyncClient) -> None:
        assert_type(client.subscribe("**"), Subscription[Event])
        assert_type(client.subscribe("**", kind="metric", every=0.5), Subscription[Point])
        assert_type(client.subscribe("**", kind="log", on_gap="raise"), Subscription[Log])
        assert_type(client.subscribe("**", on_gap="yield", where={"a": 1}), Subscription[Event | Gap])
        assert_type(client.subscribe("**", kind="metric", on_gap="yield"), Subscription[Point | Gap])
        assert_type(blocking.subscribe("**", kind="log"), SyncSubscription[Log])
        assert_type(dichroic.events("**", address="/run/x.sock", replay="30s"), AsyncGenerator[Event, None])
        client.subscribe("**", nonsense=1)  # type: ignore[call-overload]


def test_the_package_is_marked_as_typed() -> None:
    from importlib.resources import files

    assert (files("dichroic") / "py.typed").is_file()

"""The event loop that the asynchronous client runs on: asyncio (uvloop included), or trio through anyio.

`_link` and `_trio` have a `Pause` and a connection for each. The loop is looked up when a subscription connects or
waits, so that `connect` and `subscribe` may be called before there is one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from . import _link
from ._deadline import bounded
from ._errors import DichroicError

if TYPE_CHECKING:
    from ._address import Endpoint
    from ._protocol import Stream


class Pause(Protocol):
    """A wait that ends when it is woken, or when its time is over."""

    async def wait(self, seconds: float | None = None) -> None: ...
    def wake(self) -> None: ...


class Link(Protocol):
    """One connection that feeds one `Stream`."""

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when bytes arrived, the connection ended or the time is over. Cancelling it loses nothing."""

    def wake(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self, last_frame: bytes = ...) -> None: ...
    def abort(self) -> None: ...


def in_trio() -> bool:
    """Whether the caller is a trio task. Does not import trio: a program that runs on trio has already done so."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except (RuntimeError, AttributeError):
        return False
    return True


def new_pause() -> Pause:
    if in_trio():
        from . import _trio

        return _trio.Pause()
    return _link.Pause()


async def checkpoint() -> None:
    """Lets other tasks run."""
    if in_trio():
        from . import _trio

        await _trio.checkpoint()
    else:
        await asyncio.sleep(0)


async def within(seconds: float | None, work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work` and cancels it when its time is over."""
    if in_trio():
        from . import _trio

        await _trio.within(seconds, work)
    elif seconds is None:
        await work
    else:
        try:
            await bounded(work, seconds)
        except asyncio.TimeoutError as error:
            if isinstance(error, DichroicError):  # such as HandshakeTimeoutError
                raise


async def connect_link(endpoint: Endpoint, stream: Stream) -> Link:
    """Connects to one endpoint; raises `OSError` when that fails."""
    if in_trio():
        from . import _trio

        return await _trio.connect_link(endpoint, stream)
    return await _link.connect_link(endpoint, stream)

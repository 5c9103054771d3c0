"""Dichroic for Python: what a BEAM and its Python workers do, as an `async for`.

    async with dichroic.connect() as client:
        async with client.subscribe("phoenix.**") as events:
            async for event in events:
                print(event.name, event.measurements, event.metadata)

`connect`, `connect_sync`, `events` and `start` are the ways in; everything else here is what they hand out or raise.
"""

from ._address import Address, Endpoint
from ._batch import Batch
from ._client import Batches, Client, Subscription, connect, events
from ._errors import (
    BadRequestError,
    BinaryNotFoundError,
    ClosedError,
    CollectorNotFoundError,
    ConnectionLostError,
    DetachedError,
    DichroicError,
    FrameTooLargeError,
    GapError,
    GapWarning,
    GoodbyeCode,
    GoodbyeError,
    HandshakeTimeoutError,
    InternalError,
    LimitExceededError,
    MalformedError,
    MissingDependencyError,
    ProtocolError,
    ShuttingDownError,
    SidecarError,
    SupersededError,
    TimedOutError,
    TooSlowError,
    TransportError,
    UnauthorizedError,
    VersionMismatchError,
)
from ._find_bin import find_bin
from ._points import Histogram, Point, Series
from ._sidecar import Sidecar, start
from ._sync import SyncBatches, SyncClient, SyncSubscription, connect_sync
from ._types import Event, Gap, Log, Source, Stats
from ._values import CutString
from ._version import VERSION

__version__ = VERSION

__all__ = [
    "Address",
    "BadRequestError",
    "Batch",
    "Batches",
    "BinaryNotFoundError",
    "Client",
    "ClosedError",
    "CollectorNotFoundError",
    "ConnectionLostError",
    "CutString",
    "DetachedError",
    "DichroicError",
    "Endpoint",
    "Event",
    "FrameTooLargeError",
    "Gap",
    "GapError",
    "GapWarning",
    "GoodbyeCode",
    "GoodbyeError",
    "HandshakeTimeoutError",
    "Histogram",
    "InternalError",
    "LimitExceededError",
    "Log",
    "MalformedError",
    "MissingDependencyError",
    "Point",
    "ProtocolError",
    "Series",
    "ShuttingDownError",
    "Sidecar",
    "SidecarError",
    "Source",
    "Stats",
    "Subscription",
    "SupersededError",
    "SyncBatches",
    "SyncClient",
    "SyncSubscription",
    "TimedOutError",
    "TooSlowError",
    "TransportError",
    "UnauthorizedError",
    "VersionMismatchError",
    "__version__",
    "connect",
    "connect_sync",
    "events",
    "find_bin",
    "start",
]

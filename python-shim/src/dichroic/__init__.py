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
    BadRequest,
    BinaryNotFound,
    Closed,
    CollectorNotFound,
    ConnectionLost,
    Detached,
    DichroicError,
    FrameTooLarge,
    GapError,
    GapWarning,
    Goodbye,
    HandshakeTimeout,
    InternalError,
    LimitExceeded,
    Malformed,
    MissingDependency,
    ProtocolError,
    ShuttingDown,
    SidecarFailed,
    Superseded,
    TimedOut,
    TooSlow,
    Unauthorised,
    VersionMismatch,
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
    "BadRequest",
    "Batch",
    "Batches",
    "BinaryNotFound",
    "Client",
    "Closed",
    "CollectorNotFound",
    "ConnectionLost",
    "CutString",
    "Detached",
    "DichroicError",
    "Endpoint",
    "Event",
    "FrameTooLarge",
    "Gap",
    "GapError",
    "GapWarning",
    "Goodbye",
    "HandshakeTimeout",
    "Histogram",
    "InternalError",
    "LimitExceeded",
    "Log",
    "Malformed",
    "MissingDependency",
    "Point",
    "ProtocolError",
    "Series",
    "ShuttingDown",
    "Sidecar",
    "SidecarFailed",
    "Source",
    "Stats",
    "Subscription",
    "Superseded",
    "SyncBatches",
    "SyncClient",
    "SyncSubscription",
    "TimedOut",
    "TooSlow",
    "Unauthorised",
    "VersionMismatch",
    "__version__",
    "connect",
    "connect_sync",
    "events",
    "find_bin",
    "start",
]

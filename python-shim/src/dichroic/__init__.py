"""Dichroic for Python: events, logs and metrics of BEAM nodes and Python programs, as an `async for`.

    async with dichroic.connect() as client:
        async with client.subscribe("phoenix.**") as events:
            async for event in events:
                print(event.name, event.measurements, event.metadata)

Start with `connect`, `connect_sync`, `events` or `start`. The other names are the types they return or raise.
"""

from ._address import Address, Endpoint
from ._batch import Batch
from ._client import Batches, Client, Subscription, connect, events
from ._errors import (
    AccessDeniedError,
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
    UnmatchedWarning,
    VersionMismatchError,
)
from ._find_bin import find_bin
from ._gap import Gap, GapReason
from ._points import Histogram, Point, Series
from ._request import Cursor, Duration, Kind, OnDisconnect, OnFull, OnGap, Where
from ._sidecar import Sidecar, start
from ._sync import SyncBatches, SyncClient, SyncSubscription, connect_sync
from ._types import Event, Log, Source, Stats
from ._values import TruncatedString
from ._version import VERSION

__version__ = VERSION

__all__ = [
    "AccessDeniedError",
    "Address",
    "BadRequestError",
    "Batch",
    "Batches",
    "BinaryNotFoundError",
    "Client",
    "ClosedError",
    "CollectorNotFoundError",
    "ConnectionLostError",
    "Cursor",
    "DetachedError",
    "DichroicError",
    "Duration",
    "Endpoint",
    "Event",
    "FrameTooLargeError",
    "Gap",
    "GapError",
    "GapReason",
    "GapWarning",
    "GoodbyeCode",
    "GoodbyeError",
    "HandshakeTimeoutError",
    "Histogram",
    "InternalError",
    "Kind",
    "LimitExceededError",
    "Log",
    "MalformedError",
    "MissingDependencyError",
    "OnDisconnect",
    "OnFull",
    "OnGap",
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
    "TruncatedString",
    "UnauthorizedError",
    "UnmatchedWarning",
    "VersionMismatchError",
    "Where",
    "__version__",
    "connect",
    "connect_sync",
    "events",
    "find_bin",
    "start",
]

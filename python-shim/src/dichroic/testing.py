"""A collector in the test process, for tests of programs that consume streams.

`FakeCollector` uses the real protocol over a Unix socket: handshake, patterns and `where`, replay, resume by cursor,
restarts and broken connections.

    async with FakeCollector() as collector, dichroic.connect(collector.address) as client:
        async with client.subscribe("shop.**") as events:
            collector.emit("shop.checkout.stop", {"duration": 0.25}, {"plan": "free"})
            event = await anext(events)
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from . import _frames as frames
from ._errors import DichroicError, GoodbyeCode
from ._events import columns_of
from ._frames import Define, Frame, GapFrame, Hello, Histograms, Numbers, encode_frame
from ._gap import GapReason
from ._mixed import mix
from ._points import Histogram
from ._protocol import Decoder
from ._request import render_value
from ._types import Number, Scalar

_LOG_COLUMNS = ("severity", "body", "trace_id", "span_id", "attributes")


def matches(pattern: str, name: str) -> bool:
    """Whether a dotted name matches: `*` matches within a segment, `**` any number of segments."""
    return _segments(pattern.split("."), name.split("."))


def _segments(pattern: list[str], name: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_segments(pattern[1:], name[skip:]) for skip in range(len(name) + 1))
    return bool(name) and glob(pattern[0], name[0]) and _segments(pattern[1:], name[1:])


def glob(pattern: str, text: str) -> bool:
    """Whether a text matches a glob, in which `*` matches any text and nothing else is special."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


class Subscriber:
    """The collector's side of one connection.

    Attributes:
        hello: The HELLO received.
        subscribe: Its `subscribe` map, or None.
        received: Frames received after the HELLO.
        writer: The stream to the client.
    """

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        subscribe = hello.fields.get("subscribe")
        self.subscribe: dict[str, Any] | None = subscribe if isinstance(subscribe, dict) else None
        self.received: list[Frame] = []
        self.writer = writer
        self._schemas: dict[Any, int] = {}
        self._series: dict[Any, int] = {}
        self._sources: dict[str, int] = {}

    def send(self, *frames: Frame) -> None:
        """Sends frames."""
        for frame in frames:
            self.writer.write(encode_frame(frame))

    def accepts(
        self, kind: str, name: str, labels: Mapping[str, Any], source: str | None = None, runtime: str | None = None
    ) -> bool:
        """Whether the subscription matches. `source`, `runtime` and `node` of `where` also match the sender."""
        subscribe = self.subscribe
        if subscribe is None or subscribe.get("kind") != kind:
            return False
        if not any(matches(pattern, name) for pattern in subscribe["match"]):
            return False
        sender = {"source": source, "runtime": runtime, "node": source if runtime == "beam" else None}
        for label, patterns in subscribe.get("where", {}).items():
            values = [value for value in (labels.get(label), sender.get(label)) if value is not None]
            if not any(glob(pattern, render_value(value)) for pattern in patterns for value in values):
                return False
        return True

    def source(self, name: str, runtime: str) -> int:
        """Returns the id of a source; sends its definition first when it is new."""
        id = self._sources.get(name)
        if id is None:
            id = self._sources[name] = len(self._sources) + 1
            self.send(Define(frames.SOURCE, [(id, {"name": name, "runtime": runtime, "resource": {}})]))
        return id

    def schema(self, kind: str, name: str, measurements: tuple[str, ...], metadata: tuple[str, ...]) -> int:
        """Returns the id of a schema; sends its definition first when it is new."""
        key = kind, name, measurements, metadata
        id = self._schemas.get(key)
        if id is None:
            id = self._schemas[key] = len(self._schemas) + 1
            pairs = [[column, ""] for column in measurements]
            fields: dict[str, Any] = {"name": name, "kind": kind, "measurements": pairs, "metadata": list(metadata)}
            self.send(Define(frames.SCHEMA, [(id, fields)]))
        return id

    def series(self, key: Any, fields: dict[str, Any]) -> int:
        """Returns the id of a series; sends its definition first when it is new."""
        id = self._series.get(key)
        if id is None:
            id = self._series[key] = len(self._series)
            self.send(Define(frames.SERIES, [(id, fields)]))
        return id


class _Row:
    """One event or log in the replay buffer."""

    __slots__ = (
        "kind",
        "labels",
        "measurements",
        "metadata",
        "name",
        "position",
        "runtime",
        "source",
        "time",
        "values",
    )

    def __init__(self, kind: str, name: str, time: int, source: str, runtime: str) -> None:
        self.kind = kind
        self.name = name
        self.time = time
        self.source = source
        self.runtime = runtime
        self.position = 0
        self.labels: Mapping[str, Any] = {}
        self.measurements: tuple[str, ...] = ()
        self.metadata: tuple[str, ...] = ()
        self.values: tuple[Any, ...] = ()


class FakeCollector:
    """A collector in this process. Enter it as an async context manager.

    Args:
        path: Path of the socket; default in a temporary directory.
        ring: Number of rows that can be replayed.
        epoch: Start time that it reports, nanoseconds since the Unix epoch.
        token: Token that clients must send.
        known: Names that it reports as known; for patterns that match none of them it reports the nearest ones.
        on_hello: Replaces the answer to a HELLO, to simulate a faulty collector.

    Attributes:
        hellos: Every HELLO received.
        subscribers: Open connections with a subscription, in order.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        ring: int = 10_000,
        epoch: int = 1_700_000_000_000_000_000,
        token: str | None = None,
        known: Sequence[str] | None = None,
        on_hello: Callable[[Subscriber], Awaitable[None]] | None = None,
    ) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if path is None:
            self._directory = tempfile.TemporaryDirectory(prefix="dichroic-fake-")
            path = os.path.join(self._directory.name, "dichroic.sock")
        self.path = os.fspath(path)
        self.epoch = epoch
        self.on_hello = on_hello
        self.hellos: list[Hello] = []
        self.subscribers: list[Subscriber] = []
        self._token = token
        self._known = known
        self._ring: deque[_Row] = deque(maxlen=ring)
        self._next = 1
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()

    @property
    def address(self) -> str:
        """The address for `connect`."""
        return f"unix://{self.path}"

    async def __aenter__(self) -> FakeCollector:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._directory is not None:
            self._directory.cleanup()

    async def listen(self) -> None:
        """Starts accepting connections."""
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def kill(self) -> None:
        """Breaks every connection without a GOODBYE and stops listening, like kill -9."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        await self.drop_connections()

    async def restart(self) -> None:
        """Kills it and starts it with another epoch and an empty replay buffer."""
        await self.kill()
        self.epoch += 1_000_000_000
        self._ring.clear()
        self._next = 1
        await self.listen()

    async def drop_connections(self) -> None:
        """Breaks every connection without a GOODBYE."""
        for writer in self._writers:
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def goodbye(self, code: int, message: str = "", retry_ms: int = 0) -> None:
        """Sends a GOODBYE to every subscriber and closes.

        Args:
            code: A `GoodbyeCode`.
            message: Explanation, as `GoodbyeError.message`.
            retry_ms: Milliseconds until a reconnect is welcome; 0: the client's backoff.
        """
        for subscriber in self.subscribers:
            subscriber.send(frames.Goodbye(code, retry_ms, message))
            subscriber.writer.close()

    async def wait_for(self, condition: Callable[[FakeCollector], Any], timeout: float = 5.0) -> None:
        """Waits until `condition(self)` is true; checks it when a frame arrives or a connection changes.

        Raises:
            TimeoutError: It is not true within `timeout` seconds.
        """
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: condition(self)), timeout)

    # -- telemetry ---------------------------------------------------------------------------------------------

    def emit(
        self,
        name: str,
        measurements: Mapping[str, Number] | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        *,
        time: int | None = None,
        source: str = "fake@127.0.0.1",
        runtime: str = "beam",
    ) -> None:
        """Publishes an event. `time` is in nanoseconds since the Unix epoch; default now."""
        row = _Row("event", name, _now(time), source, runtime)
        row.labels = metadata or {}
        row.measurements, row.metadata = tuple(measurements or ()), tuple(metadata or ())
        row.values = (*(measurements or {}).values(), *(metadata or {}).values())
        self._publish(row)

    def log(
        self,
        name: str,
        body: str,
        attributes: Mapping[str, Scalar] | None = None,
        *,
        severity: int = 9,
        trace_id: bytes | None = None,
        span_id: bytes | None = None,
        time: int | None = None,
        source: str = "fake-worker",
        runtime: str = "python",
    ) -> None:
        """Publishes a log record. `time` is in nanoseconds since the Unix epoch; default now."""
        row = _Row("log", name, _now(time), source, runtime)
        row.labels = attributes or {}
        row.metadata = _LOG_COLUMNS
        row.values = (severity, body, trace_id, span_id, dict(attributes or {}))
        self._publish(row)

    def point(
        self,
        name: str,
        value: Number | Histogram,
        labels: Mapping[str, Scalar] | None = None,
        *,
        kind: str | None = None,
        unit: str = "",
        start: int = 0,
        time: int | None = None,
        source: str = "fake@127.0.0.1",
        runtime: str = "beam",
    ) -> None:
        """Publishes the value of a series. Times are in nanoseconds since the Unix epoch; default now."""
        labels = dict(labels or {})
        for subscriber in self.subscribers:
            if subscriber.accepts("metric", name, labels, source, runtime):
                fields: dict[str, Any] = {"name": name, "labels": labels, "start": start, "unit": unit}
                fields["source"] = subscriber.source(source, runtime)
                if isinstance(value, Histogram):
                    fields["type"] = kind or ("exponential" if value.bounds is None else "buckets")
                    if value.bounds is None:
                        fields["scale"] = value.scale or 0
                    else:
                        fields["bounds"] = list(value.bounds)
                else:
                    fields["type"] = kind or "counter"
                id = subscriber.series((name, tuple(sorted(labels.items())), source, start), fields)
                subscriber.send(_point_frame(_now(time), id, value))

    def gap(self, lost: int | None, reason: int = GapReason.SLOW, time: tuple[int, int] | None = None) -> None:
        """Sends a gap to every subscriber.

        Args:
            lost: Number of rows; None when unknown.
            reason: A `GapReason`.
            time: Of `NOT_SUBSCRIBED`: start and end, in nanoseconds since the Unix epoch.
        """
        if (time is not None) != (reason == GapReason.NOT_SUBSCRIBED):
            raise ValueError(f"a gap of reason {reason} has {'no' if time else 'a'} time; only NOT_SUBSCRIBED has one")
        for subscriber in self.subscribers:
            subscriber.send(GapFrame(0, reason, frames.LOST_UNKNOWN if lost is None else lost, time))

    def _publish(self, row: _Row) -> None:
        row.position = self._next
        self._next += 1
        self._ring.append(row)
        for subscriber in self.subscribers:
            _deliver(subscriber, [row])

    # -- connections -------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        subscriber: Subscriber | None = None
        try:
            decoder = Decoder()
            while data := await reader.read(65_536):
                for frame in decoder.feed(data):
                    if subscriber is not None:
                        subscriber.received.append(frame)
                    elif isinstance(frame, Hello):
                        subscriber = Subscriber(frame, writer)
                        await self._answer_hello(subscriber)
                    async with self._changed:
                        self._changed.notify_all()
        except (OSError, DichroicError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            if subscriber in self.subscribers:
                self.subscribers.remove(subscriber)
            writer.close()
            async with self._changed:
                self._changed.notify_all()

    async def _answer_hello(self, subscriber: Subscriber) -> None:
        self.hellos.append(subscriber.hello)
        if self.on_hello is not None:
            await self.on_hello(subscriber)
        elif self._token is not None and subscriber.hello.fields.get("token") != self._token:
            subscriber.send(frames.Goodbye(GoodbyeCode.UNAUTHORIZED, 0, "invalid token"))
            subscriber.writer.close()
        else:
            self.accept(subscriber)

    def accept(self, subscriber: Subscriber) -> None:
        """Completes the handshake, then sends the replay."""
        fields: dict[str, Any] = {"agent": "fake/0", "epoch": self.epoch}
        if subscriber.subscribe is None:
            subscriber.send(Hello(frames.COLLECTOR, fields))
            return
        rows, lost, resumed = self._replay(subscriber.subscribe)
        fields["position"] = rows[0].position if rows else self._next
        fields["resumed"] = resumed
        unmatched = self._unmatched(subscriber.subscribe)
        if unmatched:
            fields["unmatched"] = unmatched
        # Before the answer, so that a client in another thread is on the list when its handshake is complete.
        self.subscribers.append(subscriber)
        subscriber.send(Hello(frames.COLLECTOR, fields))
        if lost:
            subscriber.send(GapFrame(0, GapReason.BEYOND_REPLAY, lost))
        _deliver(subscriber, rows)

    def _unmatched(self, subscribe: dict[str, Any]) -> dict[str, Any]:
        known = self._known
        if known is None or subscribe.get("cursor") is not None:
            return {}
        patterns = [pattern for pattern in subscribe["match"] if not any(matches(pattern, name) for name in known)]
        return {pattern: difflib.get_close_matches(pattern, known) for pattern in patterns}

    def _replay(self, subscribe: dict[str, Any]) -> tuple[list[_Row], int, bool]:
        """Returns the rows to replay, the number of rows lost, and whether the cursor was found."""
        cursor = subscribe.get("cursor")
        if cursor is not None:
            epoch, position, consumed = cursor
            if epoch != self.epoch:
                return list(self._ring), 0, False
            after = position + consumed
            oldest = self._ring[0].position if self._ring else self._next
            return [row for row in self._ring if row.position >= after], max(0, oldest - after), oldest <= after
        replay_ms = subscribe.get("replay_ms")
        if replay_ms is None:
            return [], 0, False
        since = time.time_ns() - replay_ms * 1_000_000
        return [row for row in self._ring if row.time >= since], 0, False


def _now(time_ns: int | None) -> int:
    return time.time_ns() if time_ns is None else time_ns


def _deliver(subscriber: Subscriber, rows: Sequence[_Row]) -> None:
    """Sends matching rows. A frame has consecutive rows, so that position + rows is exact."""
    mixes = subscriber.hello.minor >= frames.MINOR_OF_MIXED
    pending: list[_Row] = []
    for row in rows:
        if not subscriber.accepts(row.kind, row.name, row.labels, row.source, row.runtime):
            continue
        if pending and (
            not (mixes or _shape(pending[-1]) == _shape(row))
            or pending[-1].position + 1 != row.position
            or len(pending) == 256
        ):
            _send_rows(subscriber, pending)
            pending = []
        pending.append(row)
    if pending:
        _send_rows(subscriber, pending)


def _shape(row: _Row) -> tuple[Any, ...]:
    return row.kind, row.name, row.source, row.measurements, row.metadata


def _send_rows(subscriber: Subscriber, rows: list[_Row]) -> None:
    def ids(row: _Row) -> tuple[int, int]:
        schema = subscriber.schema(row.kind, row.name, row.measurements, row.metadata)
        return schema, subscriber.source(row.source, row.runtime)

    first = rows[0].position
    if len({*map(_shape, rows)}) > 1:
        subscriber.send(frames.Mixed(mix(first, [(*ids(row), (row.time, *row.values)) for row in rows])))
    else:
        schema, source = ids(rows[0])
        subscriber.send(frames.Events(columns_of(schema, source, first, [(row.time, *row.values) for row in rows])))


def _point_frame(time: int, id: int, value: Number | Histogram) -> Frame:
    number = value.sum if isinstance(value, Histogram) else value
    whole, part = (number, 0.0) if isinstance(number, int) else (0, number)
    if isinstance(value, Histogram):
        return Histograms(time, [(id, whole, part, value._rows)])
    return Numbers(time, [(id, whole, part)])

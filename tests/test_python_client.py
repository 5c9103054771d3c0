"""The Python client against a real collector, in the programs where it is used: under uvicorn, and installed without Rust."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dichroic
import pytest
from actors import push_durations
from harness.collector import Collector
from harness.process import ROOT, Process, free_port, wait_until
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

APP = """
import contextlib, os
import dichroic
from starlette.applications import Starlette
from starlette.responses import StreamingResponse, PlainTextResponse
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    async with dichroic.connect(os.environ["ADDRESS"]) as client:
        app.state.client = client
        yield

async def loop(request):
    import asyncio
    return PlainTextResponse(type(asyncio.get_running_loop()).__module__)

async def events(request):
    async def lines():
        async with request.app.state.client.subscribe("**") as events:
            yield "ready\\n"
            async for event in events:
                yield f"{event.name} {event.metadata['n']}\\n"
    return StreamingResponse(lines())

app = Starlette(routes=[Route("/loop", loop), Route("/events", events)], lifespan=lifespan)
"""


class Uvicorn(Process):
    """uvicorn with its default event loop, which is uvloop where that is installed."""

    name = "uvicorn"

    def __init__(self, collector: Collector, folder: Path) -> None:
        super().__init__()
        (folder / "app.py").write_text(APP)
        self.collector, self.folder_of_app, self.port = collector, folder, free_port()

    def argv(self) -> list[str]:
        return [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(self.folder_of_app), "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "ADDRESS": self.collector.address, "PYTHONPATH": str(ROOT / "python-shim" / "src")}

    def wait_ready(self) -> None:
        wait_until(lambda: self.get("/loop").status == 200, 20, "uvicorn to serve")

    def get(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20)


class Emitter:
    """A program of the OpenTelemetry SDK that emits log records with an event name."""

    def __init__(self, collector: Collector, service: str, instance: str = "1") -> None:
        resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self.provider = LoggerProvider(resource)
        exporter = OTLPLogExporter(f"{collector.otlp_http}/v1/logs")
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        self.logger = self.provider.get_logger("shop")

    def emit(self, name: str | None, **attributes: Any) -> None:
        self.logger.emit(timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, event_name=name, attributes=attributes)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_program_under_uvicorn_and_uvloop_streams_events(tmp_path: Path) -> None:
    with Collector() as collector, Uvicorn(collector, tmp_path) as app:
        assert app.get("/loop").read() == b"uvloop"
        emitter = Emitter(collector, "shop")
        with app.get("/events") as answer:
            assert answer.readline() == b"ready\n"
            for number in range(3):
                emitter.emit("shop.sold", n=number)
                assert answer.readline() == f"shop.sold {number}\n".encode()


def test_a_log_record_with_an_event_name_is_an_event_with_its_attributes() -> None:
    async def read(collector: Collector) -> None:
        emitter = Emitter(collector, "shop")
        async with dichroic.connect(collector.address) as client, client.subscribe("shop.*", where={"plan": "fr*"}) as events:
            await asyncio.to_thread(emitter.emit, "shop.sold", plan="pro", n=1)
            await asyncio.to_thread(emitter.emit, "shop.sold", plan="free", n=2)
            event = await events.get(timeout=20)
            assert (event.name, event.metadata) == ("shop.sold", {"plan": "free", "n": 2, "severity": 9})

    with Collector() as collector:
        run(lambda: read(collector))


@pytest.mark.parametrize("transport", ["unix", "http"])
def test_events_of_many_names_share_a_frame_and_resume_inside_it(transport: str) -> None:
    async def read(collector: Collector) -> None:
        emitter = Emitter(collector, "shop")
        address = collector.address if transport == "unix" else f"http://{collector.admin}"
        async with dichroic.connect(address) as client:
            async with client.subscribe("shop.**", within="3s", on_gap="raise") as events:
                for number in range(20):
                    await asyncio.to_thread(emitter.emit, f"shop.part{number % 7}", n=number)
                seen = [await events.get(timeout=20)]
                assert events.stats.received >= 10, "the first frame has few rows"
                seen += [await events.get(timeout=20) for _ in range(4)]
                cursor = events.cursor
            async with client.subscribe("shop.**", cursor=cursor, within=0, on_gap="raise") as events:
                seen += [await events.get(timeout=20) for _ in range(15)]
                await asyncio.to_thread(emitter.emit, "shop.last", n=20)
                seen.append(await events.get(timeout=20))
        assert [event.metadata["n"] for event in seen] == list(range(21))
        assert [event.name for event in seen] == [f"shop.part{number % 7}" for number in range(20)] + ["shop.last"]

    with Collector() as collector:
        run(lambda: read(collector))


def test_the_client_installs_without_rust(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "./python-shim"],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {"dichroic/__init__.py", "dichroic/py.typed", "dichroic/testing.py"} <= set(files)
    assert not [name for name in files if name.endswith((".so", "/dichroic"))]


def test_the_sender_is_selected_alike_for_events_logs_and_points() -> None:
    async def read(collector: Collector) -> None:
        for label, value in {"source": "shop*", "service": "shop", "job": "shop", "instance": "1", "runtime": "python"}.items():
            where = {label: value}
            async with (
                dichroic.connect(collector.address) as client,
                client.subscribe("**", where=where) as events,
                client.subscribe("**", where=where, kind="log") as logs,
                client.subscribe("http.**", where=where, kind="metric", every=0.1) as points,
            ):
                for service in ("other", "shop"):
                    emitter = Emitter(collector, service, "1" if service == "shop" else "2")
                    await asyncio.to_thread(emitter.emit, "sold", n=1)
                    await asyncio.to_thread(emitter.emit, None, n=1)
                    await asyncio.to_thread(push_durations, collector, [5], service)
                for items in (events, logs, points):
                    item = await items.get(timeout=20)
                    if label != "runtime" and (items is not points or label != "instance"):
                        assert item.source.resource["service.name"] == "shop", (label, item)

    with Collector() as collector:
        run(lambda: read(collector))


def test_typos_are_answered_by_the_collector() -> None:
    async def read(collector: Collector) -> None:
        async with dichroic.connect(collector.address) as client:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                async with client.subscribe("pheonix.endpoint.stop", "phoenix.**", "shop.repo.query"):
                    pass
            (warning,) = warned
            assert "'pheonix.endpoint.stop' matches no name" in str(warning.message)
            assert "did you mean 'phoenix.endpoint.stop'" in str(warning.message)
            with pytest.raises(dichroic.BadRequestError, match=r'has "statuz"; did you mean "status".*they have .*status'):
                await client.subscribe("phoenix.endpoint.stop", where={"statuz": "5*"}).__aenter__()

    with Collector() as collector:
        run(lambda: read(collector))


def test_lag_is_bounded_by_the_buffer() -> None:
    """Rows that a consumer which stood still reads afterwards: at most a few buffers, whatever arrived meanwhile."""

    async def read(collector: Collector) -> int:
        async with dichroic.connect(collector.address) as client:
            async with client.subscribe("**", buffer=64, on_gap="yield") as events:
                for start in range(0, 20_000, 100):
                    await asyncio.to_thread(post_events, collector, range(start, start + 100))
                    assert events.stats.queued <= 1_000
                rows = 0
                last = -1
                while last < 19_999:
                    item = await events.get(timeout=20)
                    if isinstance(item, dichroic.Event):
                        rows, last = rows + 1, item.metadata["n"]
                return rows

    with Collector() as collector:
        rows = asyncio.run(asyncio.wait_for(read(collector), 60))
    print(f"rows read of 20,000: {rows}")
    assert rows <= 20 * 64


def post_events(collector: Collector, numbers: range) -> None:
    """Sends events whose names alternate, so that few of them share a frame."""
    records = [
        {
            "timeUnixNano": str(time.time_ns()),
            "eventName": f"shop.event{number % 7}",
            "attributes": [{"key": "n", "value": {"intValue": str(number)}}],
        }
        for number in numbers
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).encode()
    request = urllib.request.Request(f"{collector.otlp_http}/v1/logs", body, {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=20).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_refused_user_learns_the_key_to_set() -> None:
    code = """
import dichroic, sys
try:
    dichroic.connect_sync(sys.argv[1]).__enter__()
except PermissionError as error:
    print(type(error).__name__, error)
"""

    def refused(collector: Collector) -> str:
        # The other user may enter neither the checkout nor its virtual environment.
        os.chmod(collector.folder, 0o755)
        package = collector.folder / "package"
        shutil.copytree(ROOT / "python-shim" / "src", package, ignore=shutil.ignore_patterns("__pycache__"))
        command = ["/usr/bin/python3", "-c", code, collector.address]
        environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=environment, user=65534, cwd="/", capture_output=True, text=True, check=True).stdout

    with Collector() as collector:
        answer = refused(collector)
        assert answer.startswith("AccessDeniedError user 65534 may not open unix://")
        assert "security.local_socket.allow_uids" in answer
    with Collector(config={"security": {"local_socket": {"mode": "0666"}}}) as collector:
        answer = refused(collector)
        assert answer.startswith("UnauthorizedError")
        assert "user 65534 is not in security.local_socket.allow_uids" in answer

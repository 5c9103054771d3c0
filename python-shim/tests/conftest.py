"""Shared by all tests: event loops, a deadline for asynchronous tests, the golden frames, a collector in a thread."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import uvloop

from dichroic.testing import FakeCollector

P = ParamSpec("P")
DEADLINE = 20.0
GOLDEN_FOLDER = Path(__file__).resolve().parents[2] / "collector" / "wire" / "golden"


#: The event loops that every asynchronous test runs on.
LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on every event loop of `LOOPS`, for at most `DEADLINE` seconds each."""

    def run(*args: Any, event_loop: str, **kwargs: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), DEADLINE)

        LOOPS[event_loop](bounded())

    functools.update_wrapper(run, test)
    own = inspect.signature(test)
    loop = inspect.Parameter("event_loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), loop])  # type: ignore[attr-defined]
    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "event_loop" in metafunc.fixturenames:
        metafunc.parametrize("event_loop", LOOPS)


def goldens() -> dict[str, bytes]:
    """Every golden frame by name, with its header."""
    return {path.stem: path.read_bytes() for path in sorted(GOLDEN_FOLDER.glob("*.bin"))}


class Thread:
    """A fake collector whose event loop runs in a thread; `do` runs a call there and waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.fake = self.do(self._make)
        self.do(self.fake.listen)

    async def _make(self) -> FakeCollector:
        return FakeCollector()

    def do(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            result = call(*args, **kwargs)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def stop(self) -> None:
        self.do(self.fake.__aexit__, None, None, None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def there() -> Iterator[Thread]:
    """A fake collector in another thread."""
    thread = Thread()
    yield thread
    thread.stop()

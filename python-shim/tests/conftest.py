"""Shared by all tests: a deadline for asynchronous tests, and the golden frames."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

P = ParamSpec("P")
DEADLINE = 20.0
GOLDEN_FOLDER = Path(__file__).resolve().parents[2] / "collector" / "wire" / "golden"


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test in a new event loop, for at most `DEADLINE` seconds."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), DEADLINE)

        asyncio.run(bounded())

    return run


def goldens() -> dict[str, bytes]:
    """Every golden frame by name, with its header."""
    return {path.stem: path.read_bytes() for path in sorted(GOLDEN_FOLDER.glob("*.bin"))}

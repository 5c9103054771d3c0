"""The README is correct: its quick start and every other snippet run and print, and it mentions every public name."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dichroic
from dichroic.testing import FakeCollector

from .conftest import asynchronous

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SOURCE = str(Path(dichroic.__file__).parents[1])


def test_every_public_name_is_in_the_readme() -> None:
    names = [name for name in dichroic.__all__ if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"`{name}\b|[ .`]{name}\(", README)] == []


@asynchronous
async def test_the_quick_start_is_ten_lines_and_prints_events() -> None:
    code = SNIPPETS[0]
    assert len([line for line in code.splitlines() if line]) <= 10
    async with FakeCollector() as fake:
        fake.emit("phoenix.endpoint.stop", {"duration": 0.25}, {"status": 503})
        environment = {**os.environ, "PYTHONPATH": SOURCE, "DICHROIC_SOCKET": fake.path, "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        line = await process.stdout.readline()
        process.kill()
        await process.communicate()
        assert line == b"phoenix.endpoint.stop {'duration': 0.25} {'status': 503}\n"


@pytest.mark.parametrize("code", SNIPPETS[1:], ids=lambda code: code.strip().splitlines()[0][:60])
def test_every_snippet_runs_and_prints(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocking = "connect_sync" in code
    monkeypatch.chdir(tmp_path)
    printed: list[tuple[Any, ...]] = []

    async def run() -> None:
        async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
            monkeypatch.setenv("DICHROIC_SOCKET", fake.path)
            fake.emit("phoenix.endpoint.stop", {"duration": 0.25}, {"status": 503})
            names = {"dichroic": dichroic, "client": client, "print": lambda *what: printed.append(what)}
            if blocking:
                await asyncio.to_thread(exec, code, names)
                return
            task = asyncio.ensure_future(top_level(code, names)())
            while not printed and not task.done():
                for _ in fake.subscribers:
                    fake.emit("phoenix.endpoint.stop", {"duration": 0.25}, {"status": 503})
                    fake.point("http.server.request.duration", 1)
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(run(), 10))
    assert printed


def top_level(code: str, names: dict[str, Any]) -> Callable[[], Any]:
    """Compiles a snippet with top-level `await` to a coroutine function."""
    program = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert program.co_flags & inspect.CO_COROUTINE

    async def run() -> None:
        await eval(program, names)

    return run

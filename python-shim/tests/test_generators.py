"""No async generator of the package holds a timeout, task group or lock across a `yield`: nothing would release it
when the consumer stops early."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import dichroic

SOURCES = sorted(Path(dichroic.__file__).parent.glob("*.py"))


def yields_inside_async_with(tree: ast.AST) -> Iterator[int]:
    """Lines of `yield`s of async generators inside any `with` or `async with`."""
    for function in ast.walk(tree):
        if isinstance(function, ast.AsyncFunctionDef):
            for block in own_nodes(function):
                if isinstance(block, (ast.AsyncWith, ast.With)):
                    yield from (node.lineno for node in own_nodes(block) if isinstance(node, ast.Yield))


def own_nodes(root: ast.AST) -> Iterator[ast.AST]:
    """The nodes inside `root`, without those of nested functions."""
    for child in ast.iter_child_nodes(root):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from own_nodes(child)


def test_no_async_generator_yields_inside_a_context_manager() -> None:
    found = {path.name: list(yields_inside_async_with(ast.parse(path.read_text()))) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_check_finds_a_yield_inside_a_context_manager() -> None:
    bad = "async def f():\n    async with timeout(1):\n        yield 1\n"
    good = "async def f():\n    try:\n        yield 1\n    finally:\n        pass\n"
    assert list(yields_inside_async_with(ast.parse(bad))) == [3]
    assert list(yields_inside_async_with(ast.parse(good))) == []

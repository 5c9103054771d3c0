"""The modules of the package import each other without circles, also under TYPE_CHECKING and inside functions."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import dichroic

MODULES = {path.stem: ast.parse(path.read_text()) for path in Path(dichroic.__file__).parent.glob("*.py")}


def imported(tree: ast.Module) -> set[str]:
    """The sibling modules that a module imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return names & MODULES.keys()


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imported(tree) for name, tree in MODULES.items()}
    assert graph["_client"] >= {"_base", "_loop"}
    assert next(iter(TopologicalSorter(graph).static_order()))

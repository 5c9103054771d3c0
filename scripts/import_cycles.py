#!/usr/bin/env python3
"""Finds import cycles between the files of each Rust crate: `import_cycles.py [CRATE_FOLDER…]`. Exit code 1 when there are any.

Reads `crate::…`, `super::…` and `self::…` paths in code (not in comments or `#[cfg(test)]` modules) and follows each to the file of
the longest module that it names. A parent that only declares its children (`mod x;`) or re-exports them (`pub use x::…`) does not
import them; a child that imports from its parent's file does. Macros and methods that are called without an import are not seen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STRING = re.compile(r'r#".*?"#|b?"(?:\\.|[^"\\])*"', re.S)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"\b((?:crate|super|self)(?:::(?:super|[A-Za-z_][A-Za-z0-9_]*))+)")


def module_of(file: Path, source: Path) -> tuple[str, ...]:
    """The module path of a file, such as ("store", "cell")."""
    parts = list(file.relative_to(source).with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts)


def code_of(text: str) -> str:
    """The text without comments, strings and test modules."""
    text = COMMENT.sub("", STRING.sub('""', text))
    found = re.search(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*mod\s+\w+\s*\{", text)
    return text[: found.start()] if found else text


def expanded(tree: str) -> Iterator[str]:
    """Every path of a use tree: `a::{b, c::d}` gives a::b and a::c::d."""
    tree = re.sub(r"\s+as\s+\w+", "", tree).strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        yield head.strip()
        return
    depth, item = 0, ""
    for char in rest:
        if depth == 0 and char in ",}":
            if item.strip():
                yield from (head.strip() + inner for inner in expanded(item.strip()))
            item = ""
            if char == "}":
                return
            continue
        depth += (char == "{") - (char == "}")
        item += char


def resolved(path: str, module: tuple[str, ...]) -> tuple[str, ...]:
    parts = path.split("::")
    at: list[str] = [] if parts[0] == "crate" else list(module)
    for part in parts:
        if part == "super":
            at = at[:-1]
        elif part not in ("crate", "self"):
            at.append(part)
    return tuple(at)


def imports(crate: Path) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    source = crate / "src"
    files = {module_of(file, source): file for file in sorted(source.rglob("*.rs")) if file.name != "tests.rs"}
    edges: dict[tuple[str, ...], set[tuple[str, ...]]] = {module: set() for module in files}
    for module, file in files.items():
        code = code_of(file.read_text())
        children = {name[len(module)] for name in files if len(name) == len(module) + 1 and name[: len(module)] == module}
        paths: list[tuple[str, bool]] = []
        for reexport, tree in USE.findall(code):
            paths += [(path, bool(reexport)) for path in expanded(tree)]
        paths += [(path, False) for path in PATH.findall(USE.sub("", code))]
        for path, reexport in paths:
            first = path.split("::")[0]
            if first in children:
                path = f"self::{path}"
            elif first not in ("crate", "super", "self"):
                continue
            target = resolved(path, module)
            # A facade that re-exports its children is no import of theirs; neither is a child's use of its parent's re-exports.
            if reexport and target[: len(module)] == module:
                continue
            while target and target not in files:
                target = target[:-1]
            if target != module:
                edges[module].add(target)
    return edges


def cycles(edges: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[tuple[str, ...]]]:
    """Strongly connected components of more than one file (Tarjan)."""
    order: dict[tuple[str, ...], int] = {}
    low: dict[tuple[str, ...], int] = {}
    stack: list[tuple[str, ...]] = []
    found: list[list[tuple[str, ...]]] = []

    def visit(node: tuple[str, ...]) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in order:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], order[target])
        if low[node] == order[node]:
            component = []
            while True:
                last = stack.pop()
                component.append(last)
                if last == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def name(module: tuple[str, ...]) -> str:
    return "::".join(module) or "(crate root)"


def main(arguments: list[str]) -> int:
    manifests = (file for file in sorted(ROOT.glob("*/**/Cargo.toml")) if "target" not in file.parts)
    crates = [Path(a).resolve() for a in arguments] or [file.parent for file in manifests]
    failed = False
    for crate in crates:
        edges = imports(crate)
        for cycle in cycles(edges):
            failed = True
            print(f"{crate.name}: {len(cycle)} files import in a cycle:")
            for module in cycle:
                within = sorted(name(t) for t in edges[module] if t in cycle)
                print(f"  {name(module)} imports {', '.join(within)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

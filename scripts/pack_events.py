#!/usr/bin/env python3
"""Compares the built-in packs with the sources of libraries: pack_events.py FOLDER [--pack NAME]...

FOLDER contains checkouts of the libraries. Lists, for each pack that shares the first part of an event with a checkout:

    unknown   events in the sources that the pack does not use
    missing   events of the pack that no source emits

Names are found by reading the text: `[:shop, :order, :stop]` in Elixir, `[shop, order, stop]` in Erlang, spans (`:telemetry.span`,
whose prefix gets the ends start, stop and exception), and lists with a variable, of which each part may be anything. A name that is
put together in another way is reported as missing; read the source before you believe it. Exit status 1 if anything is listed.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import yaml

PACKS = Path(__file__).parent.parent / "collector/packs/packs"
ENDS = ("start", "stop", "exception")
SKIPPED = {"test", "tests", "deps", "_build", "bench", "benchmarks", "examples", "node_modules"}
# A part of a name that is only known at run time.
ANY = "*"

ELIXIR = re.compile(r"\[\s*(:[a-z_][a-z0-9_?]*(?:\s*,\s*(?::?[a-z_@][A-Za-z0-9_?.]*|[A-Za-z_.]+\([^()]*\)))+)\s*\]")
ERLANG = re.compile(r"\[\s*([a-z][a-z0-9_]*(?:\s*,\s*[A-Za-z][A-Za-z0-9_]*)+)\s*\]")
SPAN = re.compile(r"span\w*[\s(]*(?:\S+,\s*)?$|_span\b[^\n]*$")

Name = tuple[str, ...]


def parts(text: str, elixir: bool) -> Name:
    """The parts of a list; those that are not literal are ANY."""
    found = (part.strip() for part in text.split(","))
    if elixir:
        return tuple(part[1:] if part.startswith(":") else ANY for part in found)
    return tuple(part if part[0].islower() else ANY for part in found)


def emitted(folder: Path) -> tuple[dict[Name, str], set[Name]]:
    """The names in the sources with their first place, and those that are prefixes of spans."""
    names: dict[Name, str] = {}
    spans: set[Name] = set()
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".ex", ".erl") or SKIPPED & set(file.relative_to(folder).parts):
            continue
        text = file.read_text(errors="replace")
        elixir = file.suffix == ".ex"
        # Documentation names events that are no longer emitted.
        text = re.sub(r'"""(.*?)"""', lambda m: "\n" * m[0].count("\n"), text, flags=re.S) if elixir else text
        text = re.sub(r"(?m)^\s*[#%].*$", "", text)
        for match in (ELIXIR if elixir else ERLANG).finditer(text):
            name = parts(match[1], elixir)
            place = f"{file.relative_to(folder)}:{text.count(chr(10), 0, match.start()) + 1}"
            if SPAN.search(text[max(0, match.start() - 80) : match.start()]):
                spans.add(name)
                for end in ENDS:
                    names.setdefault((*name, end), place)
            else:
                names.setdefault(name, place)
    return names, spans


def fits(name: Name, pattern: Name) -> bool:
    """Whether the parts are equal; ANY equals everything."""
    return len(name) == len(pattern) and all(ANY in (a, b) or a == b for a, b in zip(name, pattern, strict=True))


def of_pack(pack: dict) -> set[Name]:
    """The events of the definitions, streams and carries. A template may be any number of parts, and is skipped."""
    events = [entry["event"] for key in ("definitions", "streams") for entry in pack.get(key, []) if "event" in entry]
    events += [carry["event"] for carry in pack.get("carry", {}).values() if "event" in carry]
    return {tuple(event.split(".")) for event in events if not event.startswith("${")}


def literal(name: Name) -> int:
    """The number of parts that are known."""
    return sum(part != ANY for part in name)


def known_to(pack: dict) -> set[Name]:
    """The events of the pack, with ANY for the parts that are templates."""
    return {tuple(ANY if "${" in part else part for part in name) for name in of_pack(pack)}


def covered(name: Name, pack: dict) -> bool:
    """Whether one of the patterns of the pack matches the event."""
    patterns = (re.escape(p).replace(r"\*\*", ".+").replace(r"\*", "[^.]+") for p in pack["events"])
    return any(re.fullmatch(pattern, ".".join(name)) for pattern in patterns)


def compare(pack: dict, others: set[Name], names: dict[Name, str], spans: set[Name]) -> tuple[dict[Name, str], set[Name]]:
    """Events that the pack covers and no pack uses, and events of the pack that are not in the sources."""
    known = known_to(pack)
    roots = {name[0] for name in known}
    here = {name: place for name, place in names.items() if name[0] in roots and len(name) > 1}
    # A list that continues in other names is a prefix, not an event.
    longer = here.keys() | known
    prefixes = spans | {name for name in here for other in longer if len(other) > len(name) and other[: len(name)] == name}

    def emits(name: Name) -> bool:
        exact = any(fits(name, other) for other in here)
        return exact or any(fits(name[: len(other)], other) and literal(other) > 1 for other in here if len(name) == len(other) + 1)

    unknown = {
        name: place
        for name, place in here.items()
        if covered(name, pack)
        and name not in prefixes
        and ANY not in name
        and name[-1] != "start"
        and not any(fits(name, other) for other in known | others)
    }
    return unknown, {name for name in known if not emits(name)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="folder with checkouts of libraries")
    parser.add_argument("--pack", action="append", default=[], help="only this pack (repeatable)")
    chosen = parser.parse_args()
    checkouts = [folder for folder in sorted(chosen.folder.iterdir()) if folder.is_dir()]
    if not checkouts:
        parser.error(f"no checkouts in {chosen.folder}")
    names: dict[Name, str] = {}
    spans: set[Name] = set()
    first: defaultdict[str, int] = defaultdict(int)
    for folder in checkouts:
        found, found_spans = emitted(folder)
        names |= {name: f"{folder.name}/{place}" for name, place in found.items() if name not in names}
        spans |= found_spans
        for name in found:
            first[name[0]] += 1
    listed = 0
    packs = [yaml.safe_load(file.read_text()) for file in sorted(PACKS.glob("*.yaml"))]
    used = {name for pack in packs for name in known_to(pack)}
    for pack in packs:
        if chosen.pack and pack["name"] not in chosen.pack:
            continue
        roots = {name[0] for name in of_pack(pack)}
        if not any(first[root] for root in roots):
            continue
        unknown, missing = compare(pack, used, names, spans)
        listed += len(unknown) + len(missing)
        print(f"{pack['name']}: {len(unknown)} unknown, {len(missing)} missing ({pack.get('checked', 'not checked')})")
        for name, place in sorted(unknown.items()):
            print(f"  unknown  {'.'.join(name)}  {place}")
        for name in sorted(missing):
            print(f"  missing  {'.'.join(name)}")
    return 1 if listed else 0


if __name__ == "__main__":
    sys.exit(main())

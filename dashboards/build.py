"""Writes the dashboards into this folder: `python dashboards/build.py`. The JSON files are committed; a test compares them.

Each dashboard is a module under `boards/`, in the order of the screen: rate, errors and duration first, limits second, details in
collapsed rows. `boards/grafana.py` produces Grafana's JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

from boards.beam import beam
from boards.itself import itself
from boards.services import services

BOARDS = (services, beam, itself)


def files() -> dict[str, str]:
    """File name and text of every dashboard."""
    documents = [board().document() for board in BOARDS]
    return {f"{d['uid']}.json": json.dumps(d, indent=2, ensure_ascii=False) + "\n" for d in documents}


def main() -> None:
    here = Path(__file__).resolve().parent
    for name, text in files().items():
        (here / name).write_text(text, encoding="utf-8")
        print(f"wrote {here / name}")


if __name__ == "__main__":
    main()

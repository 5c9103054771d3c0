"""Writes the dashboards beside it: `python dashboards/build.py`. The JSON files are committed; a test holds them to this.

What a dashboard shows stands in its module under `boards/`, in the order of the screen: rate, errors and duration first, limits
second, details in collapsed rows. How Grafana wants it written is in `boards/grafana.py`.
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

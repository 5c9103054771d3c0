#!/usr/bin/env python3
"""Draws the pictures of README and docs from a real run: `make pictures`.

Starts the collector with the demo's programs and a Prometheus, waits two minutes, and writes

- docs/images/dashboard.svg: panels of dashboards/dichroic-services.json, with the answers of Prometheus to their queries. The
  picture states that this script drew it and that it is not a Grafana screenshot.
- docs/images/terminal.svg: the output of two commands as they printed it.
"""

from __future__ import annotations

import shlex
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from dash_queries import dashboards, expand, legend, panels  # noqa: E402
from harness.collector import Collector  # noqa: E402
from harness.demo import Embedder, Recommender, Shop  # noqa: E402
from harness.process import wait_until  # noqa: E402
from harness.prometheus import Prometheus  # noqa: E402

SECONDS = 120
WIDTH = 1200
COLORS = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0"]
STATS = ["Requests", "Errors", "p50", "p95", "p99", "Scraped workers up"]
ORIGIN = "Drawn by scripts/pictures.py from the queries of dashboards/dichroic-services.json; not a Grafana screenshot."
CHARTS = [
    "Request rate by service",
    "BEAM and Python side by side, p95",
    "Requests by status",
    "Request rate by route",
    "Jobs by worker and outcome",
    "Operation duration, p95 by table",
]


def formatted(value: float, unit: str) -> str:
    """A value with its unit, as short as a panel shows it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}/s" if unit in ("reqps", "ops") else f"{value:.3g}"


def text(x: float, y: float, content: str, size: int = 12, fill: str = "#ccccdc", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" {more}>{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, title: str) -> str:
    frame = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="#181b1f" stroke="#2c3235"/>'
    return frame + text(x + 10, y + 20, title, 13, more='font-weight="500"')


class Board:
    """The queries of one dashboard, answered by a Prometheus."""

    def __init__(self, prometheus: Prometheus, uid: str):
        self.prometheus = prometheus
        document = dashboards()[uid]
        self.by_title = {panel["title"]: panel for panel in panels(document)}
        self.values = {v["name"]: str(v["allValue"]) for v in document["templating"]["list"] if v["type"] == "query"}

    def expression(self, target: dict[str, Any]) -> str:
        return expand(target["expr"], self.values, interval=10)

    def stat(self, title: str, x: float, y: float, width: float, height: float) -> str:
        panel = self.by_title[title]
        answer = self.prometheus.query(self.expression(panel["targets"][0]))
        unit = panel["fieldConfig"]["defaults"]["unit"]
        shown = formatted(float(answer[0]["value"][1]), unit) if answer else "no data"
        middle = f'text-anchor="middle" font-weight="600" class="{unit}"'
        return box(x, y, width, height, title) + text(x + width / 2, y + height - 18, shown, 26, "#73bf69", middle)

    def chart(self, title: str, x: float, y: float, width: float, height: float) -> str:
        panel = self.by_title[title]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        end = time.time()
        lines: list[tuple[str, list[tuple[float, float]]]] = []
        for target in panel["targets"]:
            for entry in self.prometheus.query_range(self.expression(target), end - SECONDS, end, 2):
                points = [(float(t), float(v)) for t, v in entry["values"] if v != "NaN"]
                if points:
                    lines.append((legend(target, entry["metric"]), points))
        lines = lines[: len(COLORS)]
        top = max((v for _, points in lines for _, v in points), default=1) * 1.1 or 1
        left, right, upper, lower = x + 62, x + width - 12, y + 34, y + height - 38
        out = [box(x, y, width, height, title)]
        for step in range(5):
            level = lower - (lower - upper) * step / 4
            out.append(f'<path d="M{left:g} {level:g}H{right:g}" stroke="#2c3235"/>')
            out.append(text(left - 6, level + 4, formatted(top * step / 4, unit), 10, "#8e8e9c", 'text-anchor="end"'))
        key = x + 10
        for (label, points), color in zip(lines, COLORS, strict=False):
            at = ((left + (t - end + SECONDS) / SECONDS * (right - left), lower - v / top * (lower - upper)) for t, v in points)
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in at)
            out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
            if key + 16 + 6 * len(label) < x + width:
                out.append(f'<rect x="{key:g}" y="{y + height - 20:g}" width="12" height="3" fill="{color}"/>')
                out.append(text(key + 16, y + height - 15, label, 10))
                key += 28 + 6 * len(label)
        return "".join(out)

    def draw(self) -> str:
        out, gap = [], 10
        wide = (WIDTH - gap * (len(STATS) + 1)) / len(STATS)
        for i, title in enumerate(STATS):
            out.append(self.stat(title, gap + i * (wide + gap), 56, wide, 84))
        wide = (WIDTH - 3 * gap) / 2
        for i, title in enumerate(CHARTS):
            out.append(self.chart(title, gap + i % 2 * (wide + gap), 150 + i // 2 * 230, wide, 220))
        height = 150 + 230 * ((len(CHARTS) + 1) // 2) + 24
        out.append(text(gap, height - 8, ORIGIN, 10, "#8e8e9c"))
        heading = text(gap + 4, 36, "Dichroic / Federated services", 20, more='font-weight="500"')
        return svg(WIDTH, height, "#111217", heading + "".join(out))


def svg(width: float, height: float, background: str, content: str, font: str = "Inter, Helvetica, Arial, sans-serif") -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="{font}">'
        f'<rect width="100%" height="100%" fill="{background}"/>{content}</svg>\n'
    )


def terminal(sessions: list[tuple[str, str]]) -> str:
    """Commands and what they printed, as on a terminal."""
    lines = []
    for command, output in sessions:
        lines += [f"$ {command}", *output.rstrip().splitlines(), ""]
    lines = lines[:-1]
    columns = max(map(len, lines))
    colors = ["#b5e48c" if line.startswith("$ ") else "#dee2e6" for line in lines]
    rows = enumerate(zip(lines, colors, strict=True))
    body = "".join(text(16, 48 + 18 * i, line, 13, color, 'xml:space="preserve"') for i, (line, color) in rows)
    dots = ["#ff5f56", "#ffbd2e", "#27c93f"]
    buttons = "".join(f'<circle cx="{18 + 18 * i}" cy="16" r="5" fill="{color}"/>' for i, color in enumerate(dots))
    mono = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
    return svg(32 + 7.85 * columns, 48 + 18 * len(lines), "#1a1b26", buttons + body, mono)


def main() -> None:
    images = ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    with (
        Embedder() as embedder,
        Collector(scrape=[embedder.url]) as collector,
        Shop(collector, rate=60),
        Recommender(collector),
        Prometheus(collector.prometheus) as prometheus,
    ):
        wait_until(lambda: prometheus.query("up") or None, 30, "Prometheus to scrape")
        end = time.monotonic() + SECONDS
        wait_until(lambda: time.monotonic() >= end, SECONDS + 5, "two minutes of data")
        uid = next(uid for uid in dashboards() if "services" in uid)
        (images / "dashboard.svg").write_text(Board(prometheus, uid).draw())
        commands = [["tap", "phoenix.endpoint.stop", "--where", "status=5*", "--limit", "5"], ["ledger"]]
        shown = [(shlex.join(["dichroic", *command]), collector.run_command(*command).stdout) for command in commands]
        (images / "terminal.svg").write_text(terminal(shown))
    print("wrote docs/images/dashboard.svg and docs/images/terminal.svg")


if __name__ == "__main__":
    main()

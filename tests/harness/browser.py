"""A headless browser, and a web site of somebody else."""

from __future__ import annotations

import http.server
import json
import queue
import shutil
import subprocess
import tempfile
import threading
from types import TracebackType
from typing import Self

from harness.process import PATIENCE, Json

BROWSER = "chromium-headless-shell"
NAME = "evil.example"


def browse(url: str, *args: str) -> str:
    """The document that the browser has after it loaded a page. All names are addresses of this machine."""
    browser = shutil.which(BROWSER)
    assert browser, f"{BROWSER} is missing: run scripts/setup.sh test"
    with tempfile.TemporaryDirectory(prefix="dichroic-browser-") as profile:
        command = [
            browser,
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            *args,
            "--dump-dom",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    return done.stdout


class Site:
    """A web site with one page, whose script posts its result to `/result`."""

    def __init__(self, script: str):
        self.results: queue.Queue[Json] = queue.Queue()
        page = f"<!doctype html><script>(async () => {{ {script} }})()</script>".encode()
        results = self.results

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def do_POST(self) -> None:
                results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://{NAME}:{self.server.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    def visit(self) -> Json:
        """Lets the browser open the page, and returns the result of its script."""
        threading.Thread(target=browse, args=(self.url, "--virtual-time-budget=30000"), daemon=True).start()
        return self.results.get(timeout=2 * PATIENCE)

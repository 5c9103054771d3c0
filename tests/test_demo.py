"""The demo, on free ports."""

import os
import subprocess
import sys

from harness.collector import dichroic_bin
from harness.process import ROOT


def test_the_demo_has_every_source_on_the_page_and_in_the_stream():
    env = {**os.environ, "DEMO_PORTS": "free", "DEMO_SECONDS": "12", "DEMO_RATE": "50", "DICHROIC_BIN": str(dichroic_bin())}
    demo = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo" / "demo.py")],
        capture_output=True, text=True, timeout=120, env=env, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("on /metrics: yes   in the stream: yes") == 3, demo.stdout
    assert ": equal" in demo.stdout

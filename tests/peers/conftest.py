"""Tests beside programs that take long to build. `make test-peers` builds them; nothing here falls back to another program."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

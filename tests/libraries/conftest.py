"""Tests with programs of real Elixir libraries. `make test-libraries` builds them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

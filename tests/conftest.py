"""Makes the harness and the Python package importable, and provides unprepared nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "python-shim" / "src")]

from attach_actors import NEWER_ERL, BareNode  # noqa: E402

# Prefixes of the node's own output.
EXPECTED_OUTPUT = ("snapshot", "emitted", "serving", "truth", "held", "watching", "gone", "loading")


@pytest.fixture
def node() -> Iterator[BareNode]:
    yield from quiet(BareNode())


@pytest.fixture(params=["erl", NEWER_ERL], ids=["installed", "newer"])
def any_node(request: pytest.FixtureRequest) -> Iterator[BareNode]:
    """A node of each available OTP: a newer one gets other code."""
    yield from quiet(BareNode(erl=request.param))


def quiet(node: BareNode) -> Iterator[BareNode]:
    with node:
        yield node
        # No log line of the node may have been caused by the relay.
        unexpected = [line for line in node.lines if not line.startswith((*EXPECTED_OUTPUT, "attach_node"))]
        assert not unexpected, "\n".join(node.lines)

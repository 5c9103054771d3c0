#!/usr/bin/env bash
# Software: uvloop 0.23.0 (the event loop of uvicorn's standard installation).
# Guess:    the transport given to `asyncio.Protocol.connection_made` is an `asyncio.Transport`, as its documented type says, on every
#           event loop. `assert isinstance(transport, asyncio.Transport)` is a usual way to narrow the type for mypy.
# Seen:     uvloop's TCP transport has all methods, and inherits from no class of asyncio: not even from `asyncio.BaseTransport`.
# Matters:  such an assertion passes in every test on asyncio's own loop, and fails in production under uvicorn. An exception in
#           `connection_made` does not close the connection: the caller waits until its own timeout.
set -uo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" --quiet install uvloop==0.23.0 || exit 2
"$dir/venv/bin/python" - <<'PY'
import asyncio, sys

import uvloop


async def transport_classes() -> tuple[bool, bool]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    seen = isinstance(transport, asyncio.Transport), isinstance(transport, asyncio.BaseTransport)
    transport.close()
    server.close()
    return seen


seen = {"asyncio": asyncio.run(transport_classes()), "uvloop": uvloop.run(transport_classes())}
print(f"instance of (asyncio.Transport, asyncio.BaseTransport): {seen}")
sys.exit(0 if seen == {"asyncio": (True, True), "uvloop": (False, False)} else 1)
PY

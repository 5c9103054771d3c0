"""Actors of the tests of attaching: a node without the relay, a private epmd, and `dichroic attach` as a process."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from actors import total
from harness.collector import Collector, dichroic_bin
from harness.erlang import compiled, telemetry_path
from harness.process import DEMO, ROOT, Process, free_port, wait_until

EMITTED = "http_server_request_duration_seconds_count"
COOKIE = "UnguessableCookieOfThisTest"
# The OTP of a newer Debian, unpacked by scripts/fetch-otp.sh.
NEWER_ERL = str(ROOT / "build" / "otp" / "trixie" / "programs" / "erl")


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class Epmd(Process):
    """A private port mapper, independent of the machine's."""

    name = "epmd"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def argv(self) -> Sequence[str]:
        return ["epmd", "-port", str(self.port), "-address", "127.0.0.1"]

    def wait_ready(self) -> None:
        wait_until(lambda: listens(self.port), 10, "epmd to listen")


# If a call arrives before the booting node registers `user`, OTP's `rex` starts a process that waits in `timer:sleep`.
OF_OTP = re.compile(r"\b(?:rex_proxy_user|timer),|,(?:rex_proxy_user|timer)\b")


class BareNode(Process):
    """`tests/attach_node.erl`: a real Erlang node with telemetry and the shop, without the relay on its code path.

    Without an epmd it listens on a fixed port. A restart keeps the name and the port.
    """

    name = "bare"

    def __init__(self, alive: str = "bare", epmd: Epmd | None = None, also: Sequence[Path] = (), boot: str = "", erl: str = "erl"):
        super().__init__()
        self.erl = erl
        self.node = f"{alive}@127.0.0.1"
        self.epmd = epmd
        self.port = free_port()
        self.also = list(also)
        self.boot = boot
        self.was_ready = False
        self.cookie_file = self.folder / "cookie"
        self.cookie_file.write_text(COOKIE + "\n")
        self.cookie_file.chmod(0o600)

    def argv(self) -> Sequence[str]:
        ebins = [
            telemetry_path(),
            compiled("shop", [DEMO / "shop.erl"]),
            compiled("attach_node", [ROOT / "tests" / "attach_node.erl"]),
            *self.also,
        ]
        paths = [part for ebin in ebins for part in ("-pa", str(ebin))]
        listener = ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        if self.epmd is None:
            listener = ["-start_epmd", "false", "-erl_epmd_port", str(self.port), *listener]
        boot = f"{{ok, _}} = application:ensure_all_started(telemetry), {self.boot} attach_node:main()."
        # Arguments are visible to other users; the cookie is in HOME, as in production.
        home = self.folder / ".erlang.cookie"
        if not home.exists():
            home.write_text(COOKIE)
            home.chmod(0o400)
        return [self.erl, "-noshell", "-name", self.node, *listener, *paths, "-eval", boot]

    def environment(self) -> dict[str, str]:
        epmd = {} if self.epmd is None else {"ERL_EPMD_PORT": str(self.epmd.port)}
        return {"HOME": str(self.folder), "ERL_CRASH_DUMP_SECONDS": "0", "DICHROIC_SOCKET": "", **epmd}

    def wait_ready(self) -> None:
        self.wait_line("attach_node ready")
        if self.was_ready:
            # After a restart an attached collector connects by itself, at any time.
            return
        # The first connection makes the node load modules of OTP that it keeps.
        wait_until(lambda: "is not attached" in self.visit() or "as part of" in self.visit(), 10, "the first connection")
        wait_until(lambda: "do_accept" not in self.snapshot()["processes"], 10, "the first connection to end")
        self.was_ready = True

    def release(self) -> int:
        """Its OTP release."""
        code = "io:put_chars(erlang:system_info(otp_release)), halt()."
        return int(subprocess.run([self.erl, "-noshell", "-eval", code], capture_output=True, text=True, check=True).stdout)

    def visit(self) -> str:
        command = [str(dichroic_bin()), "detach", *self.reach()]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stderr

    def reach(self) -> list[str]:
        """Arguments of a command that address this node."""
        where = ["--port", str(self.port)] if self.epmd is None else ["--epmd", f"127.0.0.1:{self.epmd.port}"]
        return [self.node, "--cookie-file", str(self.cookie_file), *where]

    def config(self) -> dict[str, object]:
        """Its entry for `receivers.beam.attach`."""
        where: dict[str, object] = {"port": self.port} if self.epmd is None else {"epmd": f"127.0.0.1:{self.epmd.port}"}
        return {"node": self.node, "cookie_file": str(self.cookie_file), **where}

    def snapshot(self) -> dict[str, str]:
        """Returns what exists on the node, by kind."""
        begin = len(self.lines)
        self.send_line("snapshot")
        wait_until(lambda: "snapshot end" in self.lines[begin:], 10, "a snapshot")
        found = {}
        for line in self.lines[begin:]:
            if match := re.match(r"snapshot (\w+) (.*)", line):
                found[match[1]] = OF_OTP.sub("", match[2])
        return found

    def secrets(self) -> str:
        """Returns what a shell on the node can read of the relay."""
        begin = len(self.lines)
        self.send_line("secrets")
        return wait_until(lambda: next((x for x in self.lines[begin:] if x.startswith("secrets")), None), 10, "secrets")

    def emit(self, n: int) -> None:
        """Emits `n` requests; every emitting process must end normally."""
        begin = len(self.lines)
        self.send_line(f"emit {n}")
        line = wait_until(lambda: next((x for x in self.lines[begin:] if x.startswith("emitted")), None), 30, "events")
        assert line == f"emitted {n} of which {n} ended normally"


class Attacher(Process):
    """`dichroic attach`; ready when it is attached."""

    name = "attacher"

    def __init__(self, node: BareNode, collector: Collector, *args: str, socket: bool = True):
        super().__init__()
        self.destination = ["--socket", str(collector.socket)] if socket else []
        self.node = node
        self.args = args

    def argv(self) -> Sequence[str]:
        return [str(dichroic_bin()), "attach", *self.node.reach(), *self.destination, *self.args]

    def wait_ready(self) -> None:
        self.wait_line(r": attached to \d+ events")

    def interrupt(self) -> int:
        """Sends SIGINT and returns the exit code."""
        return self._end(signal.SIGINT)


def counted(collector: Collector, expected: float, **labels: str) -> None:
    wait_until(
        lambda: total(collector.metrics(), EMITTED, **labels) == expected,
        15,
        f"{expected} requests; there are {total(collector.metrics(), EMITTED, **labels)}",
    )


def modules(value: str) -> set[str]:
    return set(value.strip("[]").split(","))


def as_before(node: BareNode, before: dict[str, str], seconds: float = 25, restarted: bool = False) -> None:
    """Waits until the node is as it was before: by default in less than the 30 s after which an orphaned relay removes itself.

    A node that was `restarted` since may not have loaded all modules of OTP again.
    """
    last: dict[str, tuple[str, str | None]] = {}

    def same() -> bool:
        now = node.snapshot()
        last.clear()
        last.update({key: (value, now.get(key)) for key, value in before.items() if now.get(key) != value})
        if restarted and "modules" in last and modules(now["modules"]) <= modules(before["modules"]):
            del last["modules"]
        return not last

    try:
        wait_until(same, seconds, "the node to be as before", exact=True)
    except AssertionError:
        raise AssertionError(f"left behind, before and after: {last}") from None


ECTO = """
-module('Elixir.Ecto.Repo').
-export([all_running/0]).
all_running() -> ['Elixir.Stock.Repo', 'Elixir.Broken.Repo', self()].
"""
REPO = """
-module('Elixir.Stock.Repo').
-export([config/0]).
config() -> [{password, <<"hidden">>}, {telemetry_prefix, [stock, repo]}].
"""


def compile_modules(folder: Path, *sources: str) -> None:
    for source in sources:
        name = re.findall(r"-module\('(.*)'\)", source)[0]
        (folder / f"{name}.erl").write_text(source)
        subprocess.run(["erlc", f"{name}.erl"], cwd=folder, check=True)

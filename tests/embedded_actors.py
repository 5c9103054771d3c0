"""A node that runs as a release does: in embedded mode, with all modules of its applications loaded by its boot script."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attach_actors import BareNode
from harness.erlang import compiled, erlang_paths, telemetry_path
from harness.process import DEMO, RELAY, ROOT

MAKE_SCRIPT = """
Vsn = fun(App) -> {ok, V} = application:get_key(App, vsn), V end,
Rel = {release, {"shop", "1"}, {erts, erlang:system_info(version)}, [{App, Vsn(App)} || App <- [kernel, stdlib]] ++ %s},
ok = file:write_file("shop.rel", io_lib:format("~tp.~n", [Rel])),
ok = systools:make_script("shop", [local, no_warn_sasl]),
halt().
"""


class EmbeddedNode(BareNode):
    """A `BareNode` in embedded mode. `relay`: how the application `dichroic` is part of the release, `None` for not at all."""

    def __init__(self, relay: str | None, alive: str = "embedded", erl: str = "erl"):
        super().__init__(alive, erl=erl)
        self.relay = relay
        applications = self.application(telemetry_path(), "telemetry", "")
        if relay is not None:
            applications += self.application(erlang_paths()[1], "dichroic", "" if relay == "permanent" else f", {relay}")
        releases = f"[{', '.join(applications)}]"
        paths = [part for ebin in sorted(self.folder.glob("lib/*/ebin")) for part in ("-pa", str(ebin))]
        command = [erl, "-noshell", *paths, "-eval", MAKE_SCRIPT % releases]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)

    def application(self, ebin: Path, name: str, start: str) -> list[str]:
        """Copies an application with the list of its modules, as rebar3 and Mix write it. Returns its entry of the release."""
        into = self.folder / "lib" / name / "ebin"
        into.mkdir(parents=True)
        for beam in ebin.glob("*.beam"):
            (into / beam.name).write_bytes(beam.read_bytes())
        modules = ", ".join(sorted(beam.stem for beam in into.glob("*.beam")))
        text = (ebin / f"{name}.app").read_text()
        (into / f"{name}.app").write_text(re.sub(r"\{modules, \[[^\]]*\]\}", f"{{modules, [{modules}]}}", text))
        if name == "dichroic":
            (into.parent / "priv").symlink_to(RELAY / "priv")
        vsn = re.findall(r'\{vsn, "([^"]*)"\}', text)[0]
        return [f'{{{name}, "{vsn}"{start}}}']

    def argv(self) -> Sequence[str]:
        folders = [compiled("shop", [DEMO / "shop.erl"]), compiled("attach_node", [ROOT / "tests" / "attach_node.erl"])]
        # Such a node loads no module by itself.
        files = [f'"{folder / folder.name}"' for folder in folders]
        boot = f"[{{module, _}} = code:load_abs(F) || F <- [{', '.join(files)}]], attach_node:main()."
        listener = ["-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-start_epmd", "false", "-erl_epmd_port", str(self.port)]
        home = self.folder / ".erlang.cookie"
        if not home.exists():
            home.write_text(self.cookie_file.read_text().strip())
            home.chmod(0o400)
        release = ["-mode", "embedded", "-boot", str(self.folder / "shop")]
        return [self.erl, *release, "-noshell", "-name", self.node, *listener, "-eval", boot]

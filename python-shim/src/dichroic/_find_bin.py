"""Finds the `dichroic` executable, which the pure wheel lacks. Used by `python -m dichroic` and `dichroic.start`."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from typing import Final

from ._errors import BinaryNotFoundError

NAME: Final = "dichroic"
VARIABLE: Final = "DICHROIC_BIN"


def find_bin() -> str:
    """Returns the path of the executable: `$DICHROIC_BIN`, else where installers put it, else from `$PATH`.

    Raises:
        BinaryNotFoundError: None of them is an executable file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if _is_program(named):
            return named
        raise BinaryNotFoundError(f"${VARIABLE} is {named}, which is not an executable file")
    tried = []
    for directory in _directories():
        path = os.path.join(directory, NAME + (sysconfig.get_config_var("EXE") or ""))
        if _is_program(path):
            return path
        tried.append(path)
    found = shutil.which(NAME)
    if found and _is_program(found):
        return found
    raise BinaryNotFoundError(
        f"no dichroic executable at {', '.join(dict.fromkeys(tried))}, nor on $PATH: install the wheel that has it "
        f"(the pure wheel is the client alone), or set ${VARIABLE}"
    )


def _is_program(path: str) -> bool:
    """Whether the path is an executable file but not a script, such as our own entry point, which would recurse."""
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return False
    with open(path, "rb") as file:
        return file.read(2) != b"#!" or os.environ.get(VARIABLE) == path


def _directories() -> Iterator[str]:
    package = os.path.dirname(os.path.abspath(__file__))
    yield sysconfig.get_path("scripts")
    yield sysconfig.get_path("scripts", vars={"base": sys.base_prefix})
    yield os.path.join(_parent(package, 4), "bin")  # <prefix>/lib/pythonX.Y/site-packages/dichroic
    yield os.path.join(_parent(package, 1), "bin")  # pip install --target
    scheme = "osx_framework_user" if sys.platform == "darwin" and sys._framework else f"{os.name}_user"  # type: ignore[attr-defined,unused-ignore]
    yield sysconfig.get_path("scripts", scheme=scheme)


def _parent(path: str, levels: int) -> str:
    for _ in range(levels):
        path = os.path.dirname(path)
    return path

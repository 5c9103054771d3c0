"""`python -m dichroic …` replaces this process with the `dichroic` executable of the wheel."""

from __future__ import annotations

import os
import sys

from ._errors import BinaryNotFoundError
from ._find_bin import find_bin


def main() -> None:
    try:
        path = find_bin()
    except BinaryNotFoundError as error:
        sys.exit(f"dichroic: {error}")
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()

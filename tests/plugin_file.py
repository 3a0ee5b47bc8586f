"""Where CUDA plugins of this installation are: built with the package, or in packages of their own."""

from __future__ import annotations

import re
from pathlib import Path

from fusedrnn import _native

NAME = "libfusedrnn_cuda.so"


def installed() -> list[Path]:
    """The libraries that the package looks at, in that order, when the environment names none."""
    package = Path(_native.__file__).parent
    folders = [package, *(package.parent / name for name in _native.cuda_packages())]
    return [folder / NAME for folder in folders if (folder / NAME).exists()]


def toolkit(plugin: Path) -> int | None:
    """The major version of CUDA that a package's plugin is for; None for one built with fusedrnn."""
    found = re.search(r"_cuda(\d+)$", plugin.parent.name)
    return int(found[1]) if found else None

"""How this program was called, so that the commands it suggests work when they are pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """The words that start this program: the bare name where the search path leads to the same file."""
    if Path(sys.argv[0]).name.startswith("fusedrnn"):
        return _short(sys.argv[0])
    return f"{_short(sys.executable)} -m fusedrnn"


def _short(path: str) -> str:
    name = os.path.basename(path)
    found = shutil.which(name)
    # No resolving of links: a virtual environment's python is a link to one that knows nothing of it.
    same = found is not None and os.path.abspath(found) == os.path.abspath(path)
    return shlex.quote(name if same else path)

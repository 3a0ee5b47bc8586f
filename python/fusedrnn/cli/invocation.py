"""How this program was called, so that the commands it suggests work when they are pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """The words that start this program: the bare name where the search path leads to the same file."""
    called = sys.argv[0] if sys.argv else ""
    if Path(called).name.startswith("fusedrnn"):
        return _short(called)
    return f"{_short(sys.executable or 'python3')} -m fusedrnn"


def quoted(path: str | Path) -> str:
    """A path as a word of a shell; what cannot be shown is written as bash and zsh read it."""
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"  # or it would be taken for an option
    if text.isprintable():
        return shlex.quote(text)
    letters = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(letters)}'"


def _short(path: str) -> str:
    name = os.path.basename(path)
    try:
        found = shutil.which(name)
        # No resolving of links: a virtual environment's python is a link to one that knows nothing of it.
        same = found is not None and os.path.abspath(found) == os.path.abspath(path)
    except OSError:  # the current directory is gone
        same = False
    return quoted(name if same else path)

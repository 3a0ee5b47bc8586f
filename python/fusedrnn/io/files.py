"""Files as a whole: written never by half, read only where they are files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fusedrnn._core.files import write_atomically
from fusedrnn.io.errors import FormatError

__all__ = ["regular_size", "write_atomically"]


def regular_size(path: str | Path) -> int:
    """The bytes of a regular file. Pipes and devices, which may block or never end, are refused.

    Raises:
        FormatError: it is none; OSError: there is no such file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"{path} is no regular file")
    return found.st_size

"""Files as a whole: written never by half, read only where they are files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from fusedrnn._core.files import write_atomically
from fusedrnn.io.errors import FormatError

__all__ = ["path_of", "regular_size", "write_atomically"]


def path_of(name: str, value: Any) -> Path:
    """`value` as the path that it must be; TypeError or ValueError where it is none."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, it is {type(value).__name__}")
    path = Path(value)
    if "\0" in str(path):
        raise ValueError(f"{name} must be a path, it has a null byte in it: {str(path)!r}")
    return path


def regular_size(path: str | Path) -> int:
    """The bytes of a regular file. Pipes and devices, which may block or never end, are refused.

    Raises:
        FormatError: it is none; OSError: there is no such file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"{path} is no regular file")
    return found.st_size

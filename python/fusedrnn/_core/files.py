"""Writing whole files so that a crash, a full disk or a second writer never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` by what ``write(file)`` writes, or leaves it exactly as it was.

    The bytes go to a temporary file in the same directory, are synced to the disk, and only then renamed over
    `path`; the directory is synced last, so that the rename itself survives a power cut.

    Raises:
        OSError: something failed (a full disk, no permission); the temporary file is gone, `path` untouched.
    """
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

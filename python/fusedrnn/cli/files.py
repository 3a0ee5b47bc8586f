"""Files as a whole: never half of one after a crash or a full disk, never more than there is to be read."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # a file system without a sync of directories


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


def remove_temporaries(directory: Path, names: frozenset[str]) -> None:
    """Removes what killed calls of `write_atomically` left of files of these names.

    No other process may be writing them.

    Raises:
        OSError: one cannot be removed.
    """
    for path in directory.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and match[1] in names and stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file to be read; pipes and devices, which may block or never end, are refused.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    _check_regular(os.stat(path))  # before it is opened, which some devices answer to
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb")
    try:
        _check_regular(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def _check_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file")


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)

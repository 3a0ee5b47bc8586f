"""What a command may fail with, said in one line, and the optional packages commands need."""

from __future__ import annotations

import errno
import importlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CommandError(Exception):
    """A failure the user can act on: printed as one line on stderr, without a traceback; exit status 1."""


class UsageError(CommandError):
    """Options that cannot be right, alone or together; exit status 2, as argparse's own errors."""


class Interrupted(CommandError):
    """Stopped by a signal after everything was saved; exit status 128 + the signal's number."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.status = 128 + signum


def need(module: str) -> Any:
    """Imports an optional package.

    Raises:
        CommandError: it is not installed; the message says what installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise CommandError(
            f"this needs {package}, which is not installed: pip install 'fusedrnn[train]'"
        ) from None


def describe_os_error(error: OSError, action: str) -> str:
    """One line for a failed file operation: the action, and why it failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{action}: the disk is full"
    if error.errno == errno.EFBIG:
        return f"{action}: the file grew past the limit set for its size"
    return f"{action}: {error.strerror or error}"


@contextmanager
def file_errors(action: str) -> Iterator[None]:
    """Turns an OSError in its block into a `CommandError` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise CommandError(describe_os_error(error, action)) from None

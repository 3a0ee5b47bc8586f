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


class ExplodedError(CommandError):
    """Training has left all reason; exit status 1."""


class Interrupted(CommandError):
    """Stopped by a signal after everything was saved; exit status 128 + the signal's number."""

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.status = 128 + signum


def need(module: str) -> Any:
    """Imports an optional package.

    Raises:
        CommandError: it is not installed, and the message says what installs it; or it cannot be loaded here.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == package:
            raise CommandError(
                f"this needs {package}, which is not installed: pip install 'fusedrnn[train]'"
            ) from None
        raise CommandError(f"{package} cannot be loaded: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # its own settings and files: whatever it raises is about this environment
        raise CommandError(f"{package} cannot be loaded: {error!r}") from None


def describe_os_error(error: OSError, action: str) -> str:
    """One line for a failed file operation: the action, and why it failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{action}: the disk is full"
    if error.errno == errno.EFBIG:
        return f"{action}: the file grew past the limit set for its size"
    return f"{action}: {error.strerror or error}"


@contextmanager
def file_errors(action: str) -> Iterator[None]:
    """Turns what the system, or Python in its place, has against a file into a `CommandError`.

    The message says what was being done: `action`. ValueError is what a name raises that no file can have.
    """
    try:
        yield
    except OSError as error:
        raise CommandError(describe_os_error(error, action)) from None
    except ValueError as error:
        raise CommandError(f"{action}: {error}") from None

"""The directory of a run: one run a directory, and nothing of another run is touched."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from fusedrnn._core.files import remove_temporaries
from fusedrnn.cli import checkpoint, metrics, plot
from fusedrnn.cli.errors import CommandError, UsageError, file_errors
from fusedrnn.cli.invocation import quoted

SAMPLES_FILE = "samples.txt"
RUN_FILES = (checkpoint.FILE_NAME, metrics.FILE_NAME, plot.FILE_NAME, SAMPLES_FILE)
_NUMBER = re.compile(r"[0-9]{1,9}")


class RunDirectory:
    """A directory that is this process's alone until `close`, or the end of the process.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def close(self) -> None:
        """Lets others have it."""
        os.close(self._handle)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def claim_new(path: Path, notify: Callable[[str], None]) -> RunDirectory:
    """Takes a directory, made if it is not there, that holds no file of another run.

    Args:
        path: the directory.
        notify: called with a sentence where the file system cannot lock it.

    Raises:
        CommandError: it cannot be made, is in use, or holds files of the names a run writes.
    """
    with file_errors(f"cannot create {path}"):
        path.mkdir(parents=True, exist_ok=True)
    return _claim(path, None, notify)


def claim_next(parent: Path, notify: Callable[[str], None]) -> RunDirectory:
    """Makes the next numbered directory in `parent` and takes it.

    Raises:
        CommandError: it cannot be made.
    """
    with file_errors(f"cannot create a directory in {parent}"):
        parent.mkdir(parents=True, exist_ok=True)
        try:
            taken = [int(name) for name in os.listdir(parent) if _NUMBER.fullmatch(name)]
        except PermissionError:  # it may be written to, but not listed
            taken = []
        number = max(taken, default=0)
        while True:
            number += 1
            path = parent / f"{number:03d}"
            try:
                path.mkdir()
                break
            except FileExistsError:  # of a run that was started at the same moment
                continue
    return _claim(path, None, notify)


def claim_existing(path: Path, notify: Callable[[str], None]) -> RunDirectory:
    """Takes the directory of the checkpoint `path` to go on with its run.

    Raises:
        CommandError: it is in use, or the checkpoint is not the one of the run that the directory holds.
    """
    return _claim(path.parent, path, notify)


def _claim(directory: Path, own: Path | None, notify: Callable[[str], None]) -> RunDirectory:
    with file_errors(f"cannot use {directory}"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    claimed = RunDirectory(directory, handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"another run is writing to {directory}: wait for its end, or choose another --output"
            ) from None
        except OSError as error:
            notify(f"{directory} cannot be locked ({error.strerror}): let no other run write to it")
        if own is None or own.name != checkpoint.FILE_NAME:
            _refuse_files_of_others(directory)
        with file_errors(f"cannot clear {directory} of temporary files"):
            remove_temporaries(directory, frozenset(RUN_FILES))
    except BaseException:
        claimed.close()
        raise
    return claimed


def _refuse_files_of_others(directory: Path) -> None:
    with file_errors(f"cannot use {directory}"):
        if os.path.lexists(directory / checkpoint.FILE_NAME):
            raise UsageError(
                f"{directory} already holds a run: continue it with --resume {quoted(directory)}, "
                "or choose another --output"
            )
        for name in RUN_FILES:
            path = directory / name
            began = len(metrics.HEADER) + 2 if name == metrics.FILE_NAME else 0  # what an update comes after
            if path.is_file() and path.stat().st_size > began:
                raise UsageError(
                    f"{path} is there already, of something else: move it away, or choose another --output"
                )

"""stdout and stderr, which may be closed, full, slow or gone: a run outlives all of it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import NamedTuple, TextIO

from fusedrnn.cli.printable import printable

# Characters written at once: at most 4000 bytes, however they are escaped, which a ready pipe takes whole.
PIECE = 400
POLL_MS = 100


class Stream:
    """A stream that never raises: what cannot be written is dropped, and `error` says why.

    A reader that does not read is waited for, until `hurried` returns True.

    Args:
        file: the stream, or None where the process was started without one.
    """

    def __init__(self, file: TextIO | None) -> None:
        self.absent = file is None
        self.error: Exception | None = None
        self.hurried: Callable[[], bool] = lambda: False
        self._file = file
        self._ready: select.poll | None = None
        if isinstance(file, io.TextIOWrapper):  # a text may have what the terminal cannot show
            file.reconfigure(errors="backslashreplace")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no file of the system behind it
            ready = select.poll()
            ready.register(self.fileno(), select.POLLOUT)
            self._ready = ready

    def write(self, text: str) -> int:
        """Writes text through to the system."""
        if self._file is not None and self.error is None:
            try:
                for start in range(0, len(text), PIECE):
                    self._wait()
                    with contextlib.suppress(BlockingIOError):  # then the text is in the buffer
                        self._file.write(text[start : start + PIECE])
                    self._flush(self._file)
            except (OSError, ValueError) as error:
                self._give_up(self._file, error)
        return len(text)

    def flush(self) -> None:
        """Does nothing: `write` leaves nothing behind."""

    def finish(self) -> None:
        """Writes out what others have printed, so that nothing is left to fail when the interpreter ends."""
        if self._file is not None and self.error is None:
            try:
                self._flush(self._file)
            except (OSError, ValueError) as error:
                self._give_up(self._file, error)

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self._file is not None and self.error is None and self._file.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor; raises OSError where there is none."""
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._file.fileno()

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self._file, "encoding", None) or "ascii"

    def _wait(self) -> None:
        while self._ready is not None and not self._ready.poll(POLL_MS):
            if self.hurried():
                raise TimeoutError(errno.ETIMEDOUT, "its reader does not read")

    def _flush(self, file: TextIO) -> None:
        while True:
            try:
                file.flush()
                return
            except BlockingIOError:  # it was made non-blocking, by another program perhaps
                self._wait()

    def _give_up(self, file: TextIO, error: Exception) -> None:
        self.error = error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # What is left in the buffer would be tried again, and fail again, when the interpreter ends.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, file.fileno())
            os.close(null)
            file.flush()


class Streams(NamedTuple):
    """Where a command writes: its results, and what it has to say about them."""

    out: Stream
    err: Stream

    def note(self, command: str, message: str) -> None:
        """Says one line on stderr."""
        self.err.write(printable(f"fusedrnn {command}".rstrip() + f": {message}") + "\n")

    def hurry(self, hurried: Callable[[], bool]) -> None:
        """From now on a reader is waited for only until `hurried` returns True."""
        self.out.hurried = self.err.hurried = hurried


def standard_streams() -> Streams:
    """stdout and stderr of this process, of which any may be closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    return Streams(Stream(sys.stdout), Stream(sys.stderr))

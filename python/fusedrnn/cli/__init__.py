"""The `fusedrnn` command: train a character model, let it write, look at the installation."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    It is 0, 1 (failed), 2 (wrong options) or 128 + the number of the signal that ended it.
    """
    try:
        # Imported here, so that Ctrl-C is answered from the first moment on.
        from fusedrnn.cli.command import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130

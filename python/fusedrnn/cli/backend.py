"""Whether the compiled module can be used as the environment and the options say."""

from __future__ import annotations

import fusedrnn as fr
from fusedrnn.cli.errors import CommandError, UsageError


def prepare_backend(threads: int | None) -> None:
    """Loads the compiled module and sets the number of threads; None leaves the default.

    Raises:
        CommandError: the module cannot be loaded, or an environment variable asks for what there is not.
        UsageError: as many threads cannot be had.
    """
    try:
        fr.cpu.isa()
        fr.get_num_threads()
    except (ImportError, RuntimeError, OSError) as error:
        raise CommandError(str(error)) from None
    if threads is not None:
        try:
            fr.set_num_threads(threads)
        except ValueError as error:
            raise UsageError(f"--threads{str(error).removeprefix('n')}") from None

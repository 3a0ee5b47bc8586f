"""Where the CUDA plugin of this installation is: built with the package, or in a package of its own."""

from __future__ import annotations

from pathlib import Path

from fusedrnn import _native

NAME = "libfusedrnn_cuda.so"


def installed() -> Path | None:
    """The library that the package opens when the environment names none; None where there is none."""
    package = Path(_native.__file__).parent
    places = (package / NAME, package.parent / "fusedrnn_cuda13" / NAME)
    return next((place for place in places if place.exists()), None)

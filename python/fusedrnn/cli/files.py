"""Writing whole files, as `fusedrnn.io` does."""

from fusedrnn.io.files import write_atomically

__all__ = ["write_atomically"]

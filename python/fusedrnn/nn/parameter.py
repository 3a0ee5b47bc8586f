"""Where pickles of version 0.1 look for the classes that `fusedrnn.nn` exports."""

from fusedrnn._core.parameter import FlatBuffer, Parameter

__all__ = ["FlatBuffer", "Parameter"]

"""NVIDIA's program `fatbinary` over its library nvFatbin, as far as clang calls it.

python fatbinary.py LIBRARY -64 --create OUT --image3=kind=elf,sm=80,file=FILE --image3=kind=ptx,sm=90,...
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path


class Library:
    """nvFatbin; SystemExit, with its words, where a call fails."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.nvFatbinGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: object) -> None:
        result = getattr(self.library, name)(*arguments)
        if result != 0:
            sys.exit(f"fatbinary: {name}: {self.library.nvFatbinGetErrorString(result).decode()}")


def image(text: str) -> dict[str, str]:
    """kind, sm and file of an image."""
    fields = dict(field.split("=", 1) for field in text.split(","))
    if fields.keys() != {"kind", "sm", "file"} or fields["kind"] not in ("elf", "ptx"):
        raise argparse.ArgumentTypeError(f"it must be kind=elf|ptx,sm=NUMBER,file=FILE, it is {text!r}")
    return fields


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="fatbinary")
    parser.add_argument("library", type=Path)
    parser.add_argument("-64", dest="wide", action="store_true", required=True)
    parser.add_argument("--create", type=Path, required=True, metavar="OUT")
    parser.add_argument("--image3", type=image, action="append", required=True, metavar="IMAGE")
    options = parser.parse_args()
    library = Library(options.library)
    handle = ctypes.c_void_p()
    # In LZ4, as every driver unpacks it: half the size.
    flags = (ctypes.c_char_p * 4)(b"-64", b"-cuda", b"-host=linux", b"-compress-all")
    library.call("nvFatbinCreate", ctypes.byref(handle), flags, ctypes.c_size_t(len(flags)))
    for part in options.image3:
        code, sm = Path(part["file"]).read_bytes(), part["sm"].encode()
        if part["kind"] == "elf":
            library.call("nvFatbinAddCubin", handle, code, ctypes.c_size_t(len(code)), sm, b"")
        else:  # a string with its end
            library.call("nvFatbinAddPTX", handle, code, ctypes.c_size_t(len(code) + 1), sm, b"", b"")
    size = ctypes.c_size_t()
    library.call("nvFatbinSize", handle, ctypes.byref(size))
    made = ctypes.create_string_buffer(size.value)
    library.call("nvFatbinGet", handle, made)
    options.create.write_bytes(made.raw)


if __name__ == "__main__":
    main()

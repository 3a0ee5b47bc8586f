"""Named arrays and a text header in one file: safetensors, checked before anything is allocated.

    write(path, arrays, metadata)
    arrays, metadata = read(path)
    header = read_header(path)      # names, types and shapes alone

The format: 8 bytes with the length of a JSON header, the header, the arrays' bytes one after the other. The
header says of each array where its bytes are; here it is held against the size of the file, so that a header
that lies costs no memory. The reading itself is the safetensors library's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io.errors import FormatError, UnsupportedError, need
from fusedrnn.io.files import regular_size, write_atomically

Array = NDArray[Any]
MAX_HEADER = 100_000_000  # bytes; the library's own limit
MAX_RANK = 32
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64,
}  # fmt: skip
_NOT_NUMPY = ("BF16", "F8_E4M3", "F8_E5M2")


class Entry(NamedTuple):
    """What the header says of one array."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """What the header says, once it is found to fit the file."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: str | Path) -> Header:
    """Names, types and shapes of the arrays in a file, and its metadata; no array is read.

    Raises:
        FormatError: the file is no safetensors file, or its header does not fit it.
        OSError: it cannot be read.
    """
    size = regular_size(path)
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
            _bad(path, f"its first 8 bytes are no length of a header in a file of {size} bytes")
        text = file.read(length)
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        _bad(path, f"its header is no JSON ({error})")
    if not isinstance(content, dict):
        _bad(path, "its header is no JSON object")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _bad(path, "its metadata is not text by name")
    entries = {name: _entry(path, name, value) for name, value in content.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.start != end:
            _bad(
                path,
                f"{_shown(name)} starts at byte {entry.start} of the data, the array before ends at {end}",
            )
        end = entry.end
    if end != size - 8 - length:
        _bad(path, f"its arrays take {end} bytes, there are {size - 8 - length}")
    return Header(entries, metadata)


def read(
    path: str | Path, accept: Callable[[Header], None] | None = None
) -> tuple[dict[str, Array], dict[str, str]]:
    """All arrays of a file by name, and its metadata.

    Args:
        path: the file.
        accept: called with the header before an array is read; what it raises ends the reading.

    Returns:
        Arrays that own their memory, and the metadata, text by name.

    Raises:
        FormatError: the file is damaged or none of this format; UnsupportedError: it holds types that NumPy
            has not (bfloat16, 8-bit floats); ImportError: safetensors is not installed.
        OSError: it cannot be read.
    """
    safetensors = need("safetensors")
    header = read_header(path)
    if accept is not None:
        accept(header)
    for name, entry in header.entries.items():
        if entry.dtype in _NOT_NUMPY:
            raise UnsupportedError(
                f"{path}: {_shown(name)} is {entry.dtype}, which NumPy has not: save it as float32"
            )
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            _require_unchanged(path, file, header)
            arrays = {name: file.get_tensor(name) for name in header.entries}
    except safetensors.SafetensorError as error:
        _bad(path, str(error))
    return arrays, header.metadata


def _require_unchanged(path: str | Path, file: Any, header: Header) -> None:
    """FormatError where the file that is open is another one than that whose header was looked at."""
    for name, entry in header.entries.items():
        there = file.get_slice(name)
        if (there.get_dtype(), tuple(there.get_shape())) != (entry.dtype, entry.shape):
            _bad(path, f"{_shown(name)} changed while the file was read")


def write(path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes arrays and text, or leaves the file that was there.

    Args:
        path: the file to write or replace.
        arrays: by name; of any type that NumPy and safetensors share, in any layout.
        metadata: text by name.

    Raises:
        TypeError: an array is of another type; ImportError: safetensors is not installed; OSError: the file
            cannot be written.
    """
    numpy = need("safetensors.numpy")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(f"arrays[{name!r}] must be of numbers of at most 8 bytes, it is {array.dtype}")
    plain = {n: np.asarray(a, a.dtype.newbyteorder("="), order="C") for n, a in arrays.items()}
    data = numpy.save(plain, dict(metadata))
    write_atomically(Path(path), lambda file: file.write(data))


def _entry(path: str | Path, name: str, value: Any) -> Entry:
    shown = _shown(name)
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _bad(path, f"{shown} has not dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        _bad(path, f"{shown} has the unknown dtype {str(dtype)[:40]!r}")
    if not _counts(shape) or len(shape) > MAX_RANK:
        _bad(path, f"{shown} has no shape of at most {MAX_RANK} axes")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _bad(path, f"{shown} has no pair of data_offsets")
    need_bytes = math.prod(shape) * _BITS[dtype] // 8
    if offsets[1] - offsets[0] != need_bytes:
        _bad(path, f"{shown} needs {need_bytes} bytes for its shape, it has {offsets[1] - offsets[0]}")
    return Entry(dtype, tuple(shape), *offsets)


def _shown(name: str) -> str:
    """A name that the file has, in quotes and of bearable length."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name comes twice")
    return content


def _bad(path: str | Path, what: str) -> NoReturn:
    raise FormatError(f"{path} is damaged or no safetensors file: {what}")

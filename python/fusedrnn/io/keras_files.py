"""What Keras writes: configurations and weights, read without Keras and without executing anything.

A .keras file is a zip of metadata.json, config.json and model.weights.h5. In the HDF5 file the arrays of a
layer lie in ``layers/<class>[_<n>]/.../vars/<i>``, where n counts the layers of that class in the order of
the configuration: names of layers play no part.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from fusedrnn.io.errors import FormatError, UnsupportedError, need
from fusedrnn.io.files import regular_size

Array = NDArray[Any]
MAX_TEXT = 1 << 24  # bytes of JSON
MAX_RATIO = 20  # of a zip's member to its compressed size; Keras itself compresses nothing
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


class WeightsFile:
    """The arrays of an HDF5 file in the layout of Keras 3.

    Args:
        file: a path or an open binary file.
        name: what messages call it.
        size: bytes of the file; never more than that many are read in all.

    Raises:
        FormatError: it is no HDF5 file; ImportError: h5py is not installed.
    """

    def __init__(self, file: Any, name: str, size: int) -> None:
        self._h5py = need("h5py")
        self._name = name
        self._left = size
        try:
            self._root = self._h5py.File(file, "r")
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            self._bad(f"it is no HDF5 file ({error})")

    def arrays(self, path: str) -> list[Array]:
        """The arrays ``path/vars/0``, ``path/vars/1``, ... of a layer.

        Raises:
            FormatError: there is no such layer, or its arrays are not what Keras writes.
        """
        try:
            group = self._group(f"{path}/vars")
            return [self._array(group, str(i), f"{path}/vars/{i}") for i in range(len(group))]
        except (OSError, RuntimeError, KeyError, TypeError, AttributeError, OverflowError) as error:
            self._bad(f"{path} cannot be read ({error})")

    def entries(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Path, type and shape of all arrays of the file, none of which is read.

        Raises:
            FormatError: it is damaged.
        """
        found: list[tuple[str, str, tuple[int, ...]]] = []

        def note(name: str, item: Any) -> None:
            if isinstance(item, self._h5py.Dataset):
                found.append((name, str(item.dtype), item.shape or ()))

        try:
            self._root.visititems(note)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            self._bad(f"it cannot be listed ({error})")
        return found

    def close(self) -> None:
        """Closes the file."""
        self._root.close()

    def _group(self, path: str) -> Any:
        group = self._root
        for part in path.split("/"):
            group = self._item(group, part, path)
            if not isinstance(group, self._h5py.Group):
                self._bad(f"{path} is no group")
        return group

    def _item(self, group: Any, name: str, path: str) -> Any:
        link = group.get(name, getlink=True)
        if link is None:
            self._bad(f"it has no {path}: was it written for another model, or by a Keras before 3?")
        if not isinstance(link, self._h5py.HardLink):
            self._bad(f"{path} is a link, perhaps to another file")
        return group[name]

    def _array(self, group: Any, name: str, path: str) -> Array:
        data = self._item(group, name, path)
        if not isinstance(data, self._h5py.Dataset) or data.dtype not in (np.float32, np.float64):
            self._bad(f"{path} is no array of float32 or float64")
        size = data.size * data.dtype.itemsize
        plain = data.chunks is None and not data.is_virtual and not data.external
        if not plain or data.id.get_storage_size() != size:
            self._bad(f"{path} does not lie in the file as it is")
        self._left -= size
        if self._left < 0:
            self._bad("its arrays are larger than the file")
        array: Array = np.asarray(data[()])
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _bad(self, what: str) -> NoReturn:
        raise FormatError(f"{self._name} is damaged or none of Keras 3: {what}") from None


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Any], WeightsFile]:
    """The configuration, the metadata and the weights of a .keras file.

    Raises:
        FormatError: it is damaged or none; UnsupportedError: a Keras before 3 wrote it; OSError: it cannot be
            read; ImportError: h5py is not installed.
    """
    regular_size(path)
    with open(path, "rb") as file:
        config, metadata, weights = _members(file, str(path))
    return config, metadata, WeightsFile(io.BytesIO(weights), f"{path}: {_WEIGHTS}", len(weights))


def _members(file: BinaryIO, path: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            metadata = parse(_member(archive, path, _METADATA, MAX_TEXT), f"{path}: {_METADATA}")
            config = parse(_member(archive, path, _CONFIG, MAX_TEXT), f"{path}: {_CONFIG}")
            version = str(metadata.get("keras_version", "unknown"))[:20]
            if not version.startswith("3."):
                raise UnsupportedError(
                    f"{path} was written by Keras {version}: open it with Keras 3 and save it again"
                )
            weights = _member(archive, path, _WEIGHTS)
    except (FormatError, UnsupportedError):
        raise
    # OSError: of offsets in the file that no file has
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise FormatError(f"{path} is damaged or no .keras file: {error}") from None
    return config, metadata, weights


def parse(text: bytes | str, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FormatError: it is none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{name} is no JSON object")
    return content


def _member(archive: zipfile.ZipFile, path: str, name: str, most: int | None = None) -> bytes:
    """The bytes of a member, once its sizes are found to be believable."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise FormatError(f"{path} is no .keras file: it has no {name}") from None
    size = info.file_size
    if size > MAX_RATIO * info.compress_size or (most is not None and size > most):
        raise FormatError(f"{path}: {size} bytes of {name} from {info.compress_size} are refused")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may ask for much memory
        raise FormatError(f"{path}: {name} is compressed in a way that Keras never does")
    return archive.read(info)

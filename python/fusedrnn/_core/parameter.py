"""Parameters: named, versioned pieces of one flat buffer per module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedrnn import _native
from fusedrnn._core import checks, torch_hints
from fusedrnn._core.arrays import resolve_device

Array = NDArray[Any]  # with device="cuda" a DeviceArray stands in its place
ALIGNMENT = 64  # bytes: a cache line, and the widest vector of any ISA path


def aligned_zeros(size: int, dtype: DTypeLike) -> Array:
    """A zeroed one-dimensional array that starts at a multiple of 64 bytes."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size * itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * itemsize].view(dtype)


def _zeros(size: int, dtype: DTypeLike, device: str) -> Any:
    if size * np.dtype(dtype).itemsize >= 1 << 62:  # which neither NumPy nor a device could count
        raise MemoryError(f"there is no memory for parameters of {size} elements")
    return aligned_zeros(size, dtype) if device == "cpu" else _native.device_zeros((size,), dtype)


def zeros_for(p: Parameter) -> Any:
    """Zeros of a parameter's shape and dtype where it is, aligned as it is."""
    if p.device != "cpu":
        return _native.device_zeros(p.shape, p.dtype)
    return aligned_zeros(p.size, p.dtype).reshape(p.shape)


def on_host(array: Any) -> Array:
    """The array itself, or a copy of a device's."""
    return array.numpy() if isinstance(array, _native.DeviceArray) else array


def host_copy(array: Any) -> Array:
    """A copy as a NumPy array, wherever the array is."""
    return array.numpy() if isinstance(array, _native.DeviceArray) else array.copy()


def store(target: Any, source: Any) -> None:
    """Copies an array of equal shape and dtype into another, wherever each is."""
    _native.store([(target, on_host(source) if isinstance(target, np.ndarray) else source)], [])


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype` as one that parameters may have.

    Raises:
        TypeError: it is not float32 or float64 in native byte order.
    """
    if dtype is None:  # which NumPy takes for float64
        raise TypeError("dtype must be np.float32 or np.float64, it is None")
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(f"dtype must be np.float32 or np.float64, it is {dtype!r}") from None
    if found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, it is {found}")
    return found


def _padded(size: int, itemsize: int) -> int:
    step = ALIGNMENT // itemsize
    return -(-size // step) * step


class FlatBuffer:
    """All parameters of one module in one aligned array, their gradients in another.

    This is what optimizers, checkpoints and all-reduces work on. A module makes its buffer once, when it is
    built; containers hold modules and never move what those hold.

    Attributes:
        data: (size,) values. Code that writes to it must call `touch` afterwards.
        grad: (size,) gradients, laid out like data.
        version: counts the writes to data. Packed weights and tapes remember the version they were made from.
        replayed: whether a caller's CUDA graph writes to data, which counts nothing: what is made from data
            may not be kept.
        device: "cpu", or "cuda", where each of data and grad is a `DeviceArray`.

    Each parameter starts at a multiple of 64 bytes. The padding between parameters is zero in data and grad,
    and every update rule leaves it zero, so that a whole buffer may be treated as one contiguous piece.

    Raises:
        ValueError: size is negative, or device another than "cpu" and "cuda"; TypeError: dtype is neither
            float32 nor float64; RuntimeError: the device cannot be used.
    """

    def __init__(self, size: int, dtype: DTypeLike, device: str = "cpu") -> None:
        size = checks.integer("size", size, most=math.inf)  # too many are too much memory
        checks.choice("device", device, ("cpu", "cuda"))
        self.data = _zeros(size, float_dtype(dtype), device)
        self.grad = _zeros(size, dtype, device)
        self.version = 0
        self.replayed = False
        self.device = device

    def touch(self) -> None:
        """Records that data was written to."""
        _native.store([], [self.counted()])

    def counted(self) -> tuple[dict[str, Any], str]:
        """What a native call that is about to write to data counts with it."""
        if self.device == "cuda" and _native.capturing():
            self.replayed = True
        return self.__dict__, "version"

    @classmethod
    def allocate(
        cls, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, device: str = "cpu"
    ) -> dict[str, Parameter]:
        """Lays zeroed parameters of the given shapes out in one new buffer, in the order given."""
        itemsize = float_dtype(dtype).itemsize
        ends = [0]
        for shape in shapes.values():
            ends.append(ends[-1] + _padded(math.prod(shape), itemsize))
        buffer = cls(ends[-1], dtype, device)
        return {
            name: Parameter._within(buffer, offset, shape, name)
            for (name, shape), offset in zip(shapes.items(), ends[:-1], strict=True)
        }

    def padded(self, size: int) -> int:
        """Elements that a parameter of `size` elements takes up, padding included."""
        return _padded(size, self.data.dtype.itemsize)

    def __getstate__(self) -> dict[str, Any]:
        """Arrays in host memory, and the device to bring them back to."""
        arrays = {"data": on_host(self.data), "grad": on_host(self.grad)}
        return {**arrays, "version": self.version, "device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.device = resolve_device(state.get("device", "cpu"))
        self.replayed = False
        for name in ("data", "grad"):
            array = _zeros(state[name].size, state[name].dtype, self.device)
            store(array, state[name])
            setattr(self, name, array)
        self.version = state["version"]


class Parameter:
    """A trainable array: a piece of a `FlatBuffer`, with its gradient.

    `data` is read-only, so that weights do not change behind a cached packing of them. Three things write to
    a parameter, and each counts up its `version`: ``p.data = array``, ``with p.writable() as w:`` and an
    optimizer's step. `grad` is an ordinary writable array; backward passes add into it.

    With ``p.requires_grad = False`` a parameter is frozen: backward passes of layers do not add to its
    gradient, and save the work; optimizers and clipping pass over it, so it neither moves nor decays.

    Args:
        array: initial values, float32 or float64; copied into a buffer of the parameter's own, on the device
            if they are a `DeviceArray`.
        name: shown in messages; the attribute's name once the parameter is set on a module.
        requires_grad: False freezes it.

    Raises:
        TypeError: array is no NumPy array or `DeviceArray` of float32 or float64. ValueError: what is
            assigned to data has another shape, or data is written to in place.

    Example:
        >>> p = Parameter(np.zeros((2, 3), np.float32), "scale")
        >>> with p.writable() as w:
        ...     w[0] = 1
        >>> p.data.sum()
        np.float32(3.0)
    """

    _flips: ClassVar[int] = 0  # of any requires_grad so far: what was made for some may not do any more

    def __init__(self, array: Array, name: str = "", *, requires_grad: bool = True) -> None:
        checks.require_no_mask("array", array)
        if not isinstance(array, (np.ndarray, _native.DeviceArray)):
            raise TypeError(f"array must be a NumPy array or a DeviceArray, it is {type(array).__name__}")
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"array must be float32 or float64, its dtype is {array.dtype}")
        checks.text("name", name)
        device = "cpu" if isinstance(array, np.ndarray) else "cuda"
        buffer = FlatBuffer(_padded(array.size, float_dtype(array.dtype).itemsize), array.dtype, device)
        self._place(buffer, 0, array.shape, name)
        store(self._writable(), array)
        self.requires_grad = requires_grad

    @classmethod
    def _within(cls, buffer: FlatBuffer, offset: int, shape: tuple[int, ...], name: str) -> Parameter:
        """The parameter of that shape at element `offset` of an existing buffer."""
        parameter = cls.__new__(cls)
        parameter._place(buffer, offset, shape, name)
        return parameter

    def _place(self, buffer: FlatBuffer, offset: int, shape: tuple[int, ...], name: str) -> None:
        self.name = name
        self._requires_grad = True
        self._buffer = buffer
        self._offset = offset
        self._shape = tuple(int(n) for n in shape)
        self._size = math.prod(self._shape)
        if buffer.device != "cpu":
            self._data: Any = buffer.data._piece(offset, self._shape, readonly=True)
            self._grad: Any = buffer.grad._piece(offset, self._shape, readonly=False)
            return
        # Views through a read-only memoryview: unlike for a view of a writable array, NumPy then refuses
        # `flags.writeable = True`.
        piece = buffer.data[offset : offset + self._size].data.toreadonly()
        self._data = np.asarray(piece).reshape(self._shape)
        self._grad = buffer.grad[offset : offset + self._size].reshape(self._shape)

    @property
    def data(self) -> Array:
        """The values, read-only and always current. Assigning copies an array of equal shape and dtype in.

        With device="cuda" a `DeviceArray`, like `grad`; both may still be assigned NumPy arrays.
        """
        data: Array = self._data
        return data

    @data.setter
    def data(self, array: Array) -> None:
        self._check(array, "data")
        write([(self, array)])

    @property
    def grad(self) -> Array:
        """The gradient, writable, zero until a backward pass adds to it. Assigning copies an array in."""
        grad: Array = self._grad
        return grad

    @grad.setter
    def grad(self, array: Array) -> None:
        if array is not self._grad:  # `p.grad *= 2` writes in place, then assigns what it wrote to
            self._check(array, "grad")
            store(self._grad, array)

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained; True at first. `state_dict` does not have it, copies and pickles do.

        An optimizer counts updates by group, not by parameter as PyTorch does. One that is trained again
        beside others that always were joins in at their count, with what states it had.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        wanted = checks.flag("requires_grad", value)
        if wanted != self._requires_grad:
            Parameter._flips += 1
            self._requires_grad = wanted

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Sets `requires_grad`; returns itself."""
        self.requires_grad = requires_grad
        return self

    def _added_to(self) -> Any:
        """The gradient, None where backward has nothing to add to: the parameter is frozen."""
        return self._grad if self._requires_grad else None

    @contextmanager
    def writable(self) -> Iterator[Array]:
        """A writable array of the values, stored into the parameter when the ``with`` block ends.

        If the block raises, nothing is stored.
        """
        array: Array = self._data.copy()
        yield array
        write([(self, array)])

    def numpy(self) -> Array:
        """A copy of the values as a NumPy array, wherever they are."""
        return host_copy(self._data)

    def zero_grad(self) -> None:
        """Sets the gradient to zero."""
        self._grad.fill(0)

    @property
    def version(self) -> int:
        """Counts the writes to the buffer this parameter lives in."""
        return self._buffer.version

    @property
    def device(self) -> str:
        """Where it lives: "cpu" or "cuda"."""
        return self._buffer.device

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        return self._shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._size

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The read-only view `data` for NumPy; a parameter on a device raises TypeError, numpy() copies."""
        if self.device != "cpu":
            raise TypeError(f"{self.name or 'parameter'} is on a CUDA device: use .numpy() for a copy")
        view: Array = self._data if dtype is None else self._data.astype(dtype, copy=False)
        return view.copy() if copy and view is self._data else view

    if not TYPE_CHECKING:  # a type checker knows what there is

        def __getattr__(self, name: str) -> Any:
            torch_hints.missing(f"{type(self).__name__!r} object", name, torch_hints.PARAMETER)

    def _writable(self) -> Any:
        """The values as a writable array, for callers that have `FlatBuffer.counted` counted with it."""
        data: Any = self._buffer.data
        if self.device != "cpu":
            return data._piece(self._offset, self._shape, readonly=False)
        return data[self._offset : self._offset + self._size].reshape(self._shape)

    def _check(self, array: Any, attribute: str) -> None:
        label = f"{self.name or 'parameter'}.{attribute}"
        checks.require_no_mask(label, array)
        accepted = np.ndarray if self.device == "cpu" else (np.ndarray, _native.DeviceArray)
        if not isinstance(array, accepted):
            device = isinstance(array, _native.DeviceArray)
            must = "a NumPy array" if self.device == "cpu" else "a NumPy array or a DeviceArray"
            fix = ": use array.numpy()" if device else ""
            raise TypeError(f"{label} must be {must}, it is {type(array).__name__}{fix}")
        if array.dtype != self.dtype:
            raise TypeError(
                f"{label} must be {self.dtype}, it is {array.dtype}: use array.astype(np.{self.dtype})"
            )
        if array.shape != self._shape:
            raise ValueError(f"{label} must have shape {self._shape}, it has {array.shape}")

    def __getstate__(self) -> dict[str, Any]:
        place = {"buffer": self._buffer, "offset": self._offset, "shape": self._shape, "name": self.name}
        return {**place, "requires_grad": self._requires_grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._place(state["buffer"], state["offset"], state["shape"], state["name"])
        self._requires_grad = state.get("requires_grad", True)

    def __repr__(self) -> str:
        frozen = "" if self._requires_grad else ", requires_grad=False"
        return f"Parameter({self.name!r}, shape={self._shape}, dtype={self.dtype}{frozen})"


def write(pairs: Iterable[tuple[Parameter, Any]]) -> None:
    """Copies arrays into the values of parameters, all of them in one go, which Ctrl-C cannot divide.

    They must have the shape and dtype of their parameters.
    """
    known = list(pairs)
    _native.store(
        [(p._writable(), on_host(array) if p.device == "cpu" else array) for p, array in known],
        [buffer.counted() for buffer in dict.fromkeys(p._buffer for p, _ in known)],
    )


def storages(parameters: Iterable[Parameter]) -> tuple[tuple[FlatBuffer, ...], tuple[Array, ...]]:
    """The buffers in which parameters live, and their gradients as the fewest arrays: a buffer's as one."""
    own: dict[FlatBuffer, dict[int, Parameter]] = {}
    for p in parameters:
        own.setdefault(p._buffer, {})[p._offset] = p
    grads: list[Array] = []
    for buffer, pieces in own.items():
        whole = sum(buffer.padded(p.size) for p in pieces.values()) == buffer.grad.size
        grads += [buffer.grad] if whole else [p.grad for p in pieces.values()]
    return tuple(own), tuple(grads)

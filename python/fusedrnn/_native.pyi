"""The compiled module: checks arguments, releases the GIL, calls a backend (csrc/backend/backend.hpp)."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

__version__: str

# ---- backends and threads (csrc/bindings/module.cpp)
def backend() -> str: ...
def set_backend(name: str) -> None: ...
def load_backend(path: str) -> str: ...
def available_backends() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def cpu_info() -> dict[str, Any]: ...
def host_allocations() -> int: ...
def cuda_info() -> dict[str, Any]: ...
def cuda_device() -> str: ...

# ---- device arrays (csrc/bindings/arrays/device_array.cpp)
class DeviceArray:
    """An array in the memory of a CUDA device.

    What `fusedrnn.asarray` makes and modules with ``device="cuda"`` take and return. Other libraries read and
    write it without a copy, through ``__dlpack__`` (``torch.from_dlpack``, ``cupy.from_dlpack``) or
    ``__cuda_array_interface__``. What a call returns may still be in the making: `numpy` and, without axes,
    ``float()`` wait for it, and raise what went wrong; `fusedrnn.cuda.stream` says who waits for what.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def device(self) -> str: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def numpy(self) -> Array: ...
    def copy(self) -> DeviceArray: ...
    def fill(self, value: float) -> None: ...
    def _assign(self, source: Array | DeviceArray) -> None: ...
    def _piece(self, offset: int, shape: Sequence[int], readonly: bool) -> DeviceArray: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __float__(self) -> float: ...
    def __len__(self) -> int: ...

def set_stream(handle: int) -> int: ...
def current_stream() -> int: ...
def device_array(array: Array) -> DeviceArray: ...
def device_zeros(shape: Sequence[int], dtype: Any) -> DeviceArray: ...
def device_array_from_dlpack(capsule: object) -> DeviceArray: ...
def device_array_from_interface(interface: dict[str, Any], owner: object) -> DeviceArray: ...

# ---- sequences (csrc/bindings/ops/sequence.cpp)
class PackedWeights:
    @property
    def nbytes(self) -> int: ...
    @property
    def backend(self) -> str: ...

class Tape:
    @property
    def nbytes(self) -> int: ...
    @property
    def cells(self) -> Array | None: ...
    @property
    def gates(self) -> Array | None: ...

def pack_weights(
    num_layers: int,
    num_directions: int,
    bias: bool,
    weights: list[Array],
    precision: str = "ieee",
    algo: str = "auto",
) -> PackedWeights: ...
def sequence_forward(
    cell: str,
    packed: PackedWeights,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    resets: Array | None,
    batch_first: bool,
    dropout: float,
    dropout_key: int,
    train: bool,
) -> tuple[Array, Array, Array | None, Tape | None]: ...
def sequence_backward(
    tape: Tape,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: list[Array],
    need_dx: bool,
) -> tuple[Array | None, Array, Array | None]: ...
def force_plan(text: str) -> None: ...
def sequence_plan(
    cell: str,
    dtype: str,
    num_layers: int,
    num_directions: int,
    T: int,
    B: int,
    I: int,
    H: int,
    threads: int,
    precision: str = "ieee",
    algo: str = "auto",
    device: str = "cpu",
) -> dict[str, Any]: ...

# ---- layers (csrc/bindings/ops/layers.cpp)
def linear_forward(x: Array, weight: Array, bias: Array | None) -> Array: ...
def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    dweight: Array | None,
    dbias: Array | None,
    need_dx: bool,
) -> Array | None: ...
def embedding_forward(ids: Array, weight: Array) -> Array: ...
def embedding_backward(dy: Array, ids: Array, dweight: Array) -> None: ...
def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]: ...
def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    dweight: Array | None,
    dbias: Array | None,
) -> Array: ...
def dropout(x: Array, p: float, key: int, stream: int) -> Array: ...
def last_forward(x: Array, lengths: Array | None, batch_first: bool) -> Array: ...
def last_backward(dy: Array, T: int, lengths: Array | None, batch_first: bool) -> Array: ...

# ---- losses (csrc/bindings/ops/losses.cpp); loss is a float, or an array of a row each with reduction "none"
def mse(
    pred: Array, target: Array, reduction: str, mask: Array | None, ignore_index: int | None
) -> tuple[Any, Array]: ...
def cross_entropy(
    pred: Array, target: Array, reduction: str, mask: Array | None, ignore_index: int | None
) -> tuple[Any, Array]: ...
def binary_cross_entropy(
    pred: Array, target: Array, reduction: str, mask: Array | None, ignore_index: int | None
) -> tuple[Any, Array]: ...

# ---- optimizers (csrc/bindings/ops/optim.cpp)
class Segments:
    """Contiguous pieces of parameters, gradients and state; keeps its arrays alive."""

    def __init__(self, kind: str, pieces: list[tuple[Array, Array, list[Array | None]]]) -> None: ...

def optimizer_step(segments: Segments, scalars: dict[str, float], clip_factor: Any) -> None: ...
def clipped_update(
    updates: list[tuple[Segments, dict[str, float], tuple[Array, Array] | None]],
    max_norm: float | None,
    skip_nonfinite: bool,
) -> Any: ...
def global_norm(grads: list[Array]) -> Any: ...
def clip_by_global_norm(grads: list[Array], max_norm: float) -> Any: ...
def clip_by_value(grads: list[Array], limit: float) -> None: ...

# ---- a whole training step (csrc/bindings/training/train_step.cpp)
class StepLoss(DeviceArray):
    """A step's loss; reading it raises ValueError where the step found a wrong id, length or class."""

    def numpy(self) -> Array: ...

class TrainStep:
    """The native step of a model; csrc/bindings/training/layer_builder.hpp describes a layer.

    On a device `counters` are each table's arrays of lr (1,) and steps (2,), else None.
    """

    def __init__(
        self,
        layers: list[tuple[str, dict[str, Any], list[tuple[Array, Array] | None]]],
        loss: str,
        tables: list[Segments],
        gradients: list[Array],
        dtype: Any,
        counters: list[tuple[Array, Array]] | None,
    ) -> None: ...
    @property
    def captured(self) -> bool: ...
    @property
    def usable(self) -> bool: ...
    def set_options(self, table: int, scalars: dict[str, float]) -> None: ...
    def register_shape(self, given: tuple[Any, ...]) -> None:
        """`given`: x, target, mask, lengths, resets, ignore_index, states; see `training.structure`."""

    def run(
        self,
        given: tuple[Any, ...],
        keys: list[int],
        counts: list[int],
        clip_norm: float | None,
        skip_nonfinite: bool,
        want_states: bool,
    ) -> tuple[Any, Any, bool | None, list[Array] | None] | None: ...

def capturing() -> bool: ...

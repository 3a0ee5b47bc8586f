"""The compiled module: checks arguments, releases the GIL, calls a backend (csrc/backend/backend.hpp)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Flow = tuple[Array, Array | None]  # norms of the gradients of h and c: csrc/bindings/ops/sequence.hpp
Counter = tuple[dict[str, Any], str]  # of a number that a call counts: csrc/bindings/counts.hpp

__version__: str
MAX_LAYERS: int

# ---- backends and threads (csrc/bindings/module.cpp)
def backend() -> str: ...
def set_backend(name: str) -> None: ...
def load_backend(path: str) -> str: ...
def available_backends() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def set_flush_denormal(mode: bool) -> bool: ...
def integers(name: str, value: Any) -> Array: ...
def cpu_info() -> dict[str, Any]: ...
def host_allocations() -> int: ...
def cuda_info() -> dict[str, Any]: ...
def cuda_device() -> str: ...
def cuda_packages() -> list[str]: ...

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
def empty_cache() -> None: ...
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
    cell: str | None = None,
    weight_dropout: float = 0.0,
    dropout_key: int = 0,
) -> PackedWeights: ...

class SequenceOptions:
    """What forward is given of its sequences besides x and the states."""

    def __init__(
        self,
        lengths: Any = None,
        resets: Any = None,
        batch_first: bool = False,
        dropout: float = 0.0,
        dropout_key: int = 0,
        train: bool = True,
        recurrent_dropout: float = 0.0,
        zoneout_c: float = 0.0,
        zoneout_h: float = 0.0,
        dropout_per_sequence: bool = False,
        first_row: int = 0,
        recompute: int = 0,
        zoneout_mean: bool = False,
    ) -> None: ...
    @property
    def lengths(self) -> Array | None: ...
    @property
    def resets(self) -> Array | None: ...
    def of_arrays(self, lengths: Array | None, resets: Array | None) -> SequenceOptions: ...

def sequence_forward(
    cell: str,
    packed: PackedWeights,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    options: SequenceOptions,
) -> tuple[Array, Array, Array | None, Tape | None]: ...
def sequence_backward(
    tape: Tape,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: list[Array],
    need_dx: bool,
    flow: bool = False,
) -> tuple[Array | None, Array, Array | None, Flow | None]: ...

# ---- sequences over memory of the caller's, arrays or tensors (csrc/bindings/ops/stack.cpp)
def host_bytes(count: int) -> Array: ...

class Stack:
    """What all calls of a stack have in common."""

    def __init__(
        self,
        cell: str,
        num_layers: int,
        num_directions: int,
        bias: bool,
        input_size: int,
        hidden_size: int,
        dtype: str = "float32",
        precision: str = "ieee",
        weight_dropout: float = 0.0,
        proj_size: int = 0,
    ) -> None: ...
    @property
    def block_bytes(self) -> tuple[int, int, int]:
        """Bytes of packed weights, and a, b: a block for T steps of B rows has at most a + T * B * b."""

    @property
    def chunk_rows(self) -> int:
        """Recomputed pieces are whole chunks of max(1, this // B) steps, or the sequence."""

    @property
    def names(self) -> list[str]: ...
    def pack(self, weights: list[Any], block: Any) -> None: ...
    def forward_into(
        self,
        weights: list[Any] | None,
        block: Any,
        x: Any,
        h0: Any,
        c0: Any,
        y: Any,
        hn: Any,
        cn: Any,
        options: SequenceOptions,
        batch_sizes: Any = None,
    ) -> None:
        """Packs weights into the block, or with None finds them there; keeps a tape behind them to train."""

    def backward_into(
        self,
        block: Any,
        x: Any,
        h0: Any,
        c0: Any,
        dy: Any,
        dhn: Any,
        dcn: Any,
        dx: Any,
        dh0: Any,
        dc0: Any,
        dweights: list[Any],
        options: SequenceOptions,
        batch_sizes: Any = None,
        flow: bool = False,
    ) -> Flow | None:
        """Writes the gradients that are not None; with flow measures that of the states."""

# ---- cells, precisions and plans (csrc/bindings/ops/plan.cpp)
def cells() -> dict[str, dict[str, Any]]: ...
def precisions() -> tuple[str, ...]: ...
def cpu_precisions() -> tuple[str, ...]: ...
def cuda_precisions() -> tuple[str, ...]: ...
def algos() -> tuple[str, ...]: ...
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
    proj_size: int = 0,
) -> dict[str, Any]: ...

# ---- layers (csrc/bindings/ops/layers.cpp)
def linear_forward(x: Array, weight: Array, bias: Array | None, precision: str = "ieee") -> Array: ...
def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    dweight: Array | None,
    dbias: Array | None,
    need_dx: bool,
    precision: str = "ieee",
) -> Array | None: ...
def embedding_forward(ids: Array, weight: Array) -> Array: ...
def embedding_backward(dy: Array, ids: Array, dweight: Array, padding_idx: int | None = None) -> None: ...
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

# ---- losses (csrc/bindings/ops/losses.cpp)
class LossSpec:
    """A loss, by the name of its function, with its options; compared and hashed by what it holds."""

    def __init__(
        self,
        loss: str,
        reduction: str = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        weight: Array | None = None,
        threshold: float | None = None,
    ) -> None: ...
    @property
    def reduction(self) -> str: ...
    @property
    def ignore_index(self) -> int | None: ...
    def __hash__(self) -> int: ...

def losses() -> dict[str, tuple[str | None, str | None, str | None]]: ...
def loss(spec: LossSpec, pred: Array, target: Array, mask: Array | None) -> tuple[Any, Array]: ...

# ---- training calls (csrc/bindings/calls/)
class Call:
    """One training call of a module: what its backward reads, and the calls that its inputs came from."""

    @property
    def version(self) -> int: ...
    @property
    def tape(self) -> Any: ...
    @property
    def sources(self) -> tuple[Call, ...]: ...
    @property
    def follows(self) -> bool: ...
    @property
    def unbatched(self) -> bool: ...

class Calls:
    """A module's training calls: which live, and which of them backward means."""

    def __init__(self, owner: str) -> None: ...
    @property
    def newest(self) -> Call | None: ...
    @property
    def unfinished(self) -> bool: ...
    def clear(self) -> None: ...
    def make_room(self) -> None: ...
    def record(
        self,
        version: int,
        tape: Any,
        inputs: Iterable[Any],
        results: Iterable[Any],
        parts: Iterable[Call] = ...,
        unbatched: bool = ...,
        /,
    ) -> Call: ...
    def select(self, of: Any = ..., /) -> Call | None: ...
    def took(self, call: Call, /) -> None: ...
    def __iter__(self) -> Iterator[Call]: ...

def makers(array: Any) -> tuple[Call, ...]: ...
def input_copy(x: Array) -> Array: ...

# ---- arrays written (csrc/bindings/arrays/store.cpp)
def store(pairs: list[tuple[Any, Any]], counted: list[Counter]) -> None: ...

# ---- optimizers (csrc/bindings/ops/optim.cpp)
class Segments:
    """Contiguous pieces of parameters, gradients and state; keeps its arrays alive."""

    def __init__(
        self, kind: str, pieces: list[tuple[Any, Any, list[Any]]], tensors: bool = False
    ) -> None: ...
    def refresh(self, params: list[Any], grads: list[Any]) -> bool: ...

def rules() -> dict[str, tuple[dict[str, str | None], dict[str, tuple[float, str]]]]: ...
def optimizer_step(segments: Segments, scalars: dict[str, float], step: int, clip_factor: Any) -> None: ...
def clipped_update(
    updates: list[tuple[Segments, dict[str, float], int, tuple[Array, Array] | None]],
    max_norm: float | None,
    skip_nonfinite: bool,
    counted: list[Counter] = ...,
) -> Any: ...
def global_norm(arrays: list[Array]) -> Any: ...
def clip_by_global_norm(arrays: list[Array], max_norm: float) -> Any: ...
def clip_by_value(arrays: list[Array], limit: float) -> None: ...

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
        """`given`: x, target, mask, lengths, resets, LossSpec, states; see `training.structure`."""

    def run(
        self,
        given: tuple[Any, ...],
        keys: list[Counter],
        with_keys: list[Counter],
        steps: list[int],
        updates: list[Counter],
        clip_norm: float | None,
        clip_value: float | None,
        skip_nonfinite: bool,
        want_states: bool,
        want_flow: bool,
    ) -> tuple[Any, Any, bool | None, list[Array] | None, list[Flow | None] | None] | None: ...

class Turn:
    """A context that one thread at a time may be in; RuntimeError in another."""

    def __enter__(self) -> None: ...
    def __exit__(self, *error: Any) -> None: ...

def capturing() -> bool: ...

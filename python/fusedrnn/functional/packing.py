"""Weights packed once, for many calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.cells import ALGOS, CELLS, PRECISIONS, weights_of
from fusedrnn._core.weight_names import cell_by_names, stack_shape

Array = NDArray[Any]


class PackedWeights:
    """Weights in the backend's own layout; pass it as ``weights`` to pack once and call often.

    A snapshot: later writes to the arrays it was made from are not seen. They fix the precision of what is
    computed with them, and the kernels that do.
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        precision: str = "ieee",
        algo: str = "auto",
        cell: str | None = None,
        weight_dropout: float = 0.0,
        dropout_key: int = 0,
    ) -> None:
        checks.mapping("weights", weights, "a dict of arrays by name")
        checks.choice("precision", precision, PRECISIONS)
        checks.choice("algo", algo, ALGOS)
        self.cell = cell_by_names(weights, CELLS.items()) if cell is None else cell
        specs = weights_of(self.cell)
        self.shape = stack_shape(weights, specs)
        arrays = {name: as_device_array(weights[name]) for name in self.shape.weights(specs)}
        self.on_device = any(isinstance(array, _native.DeviceArray) for array in arrays.values())
        self.native = _native.pack_weights(
            self.shape.num_layers,
            self.shape.num_directions,
            self.shape.bias,
            list(arrays.values()),
            precision,
            algo,
            self.cell,
            weight_dropout,
            dropout_key,
        )
        self.weight_dropout = weight_dropout
        self.shapes = {name: array.shape for name, array in arrays.items()}

    @property
    def nbytes(self) -> int:
        """Size of the packed copy in bytes."""
        return self.native.nbytes


def pack_weights(
    weights: Mapping[str, Array],
    *,
    precision: str = "ieee",
    algo: str = "auto",
    cell: str | None = None,
    weight_dropout: float = 0.0,
    dropout_key: int = 0,
) -> PackedWeights:
    """Packs a weights dict once, for use in place of it in the forward functions.

    Args:
        weights: see `fusedrnn.functional.recurrent`.
        precision: what operands of matrix products are rounded to on their way into the kernels: "ieee"
            (nothing) and "bf16" anywhere; on the CPU also "bf16x3" (two bf16, three products in place of one:
            17 digits) and "bf16x6" (three bf16, six products: float32's accuracy, other bits); on CUDA also
            "tf32", "tf32x3" (three products of tf32 in place of one, near float32) and "fp16". Sums, gates
            and cell states keep the dtype.
        algo: which kernels compute the recurrent part on CUDA: "auto" chooses by size and device; "reference"
            (a thread for each row and unit), "step" (a kernel for each step), "cluster" and "grid" (one for
            many steps, by few blocks or by all) are required, and a call for whose sizes or device they are
            not made raises RuntimeError.
            Results differ in rounding. On the CPU "auto" alone.
        cell: whose they are: "lstm", "lstm_peephole", "lstm_projected", "lstm_layer_norm", "gru",
            "gru_reset_before", "rnn_tanh" or "rnn_relu", the last two being the same here. None tells it by
            the names of peepholes, projections or layer normalisation, else by G, the rows of weight_hh for
            each of its columns: with 3 it is "gru".
        weight_dropout: probability of dropping an element of weight_hh (Merity et al. 2018), on the CPU: all
            calls with this handle have the same mask, and gradients of weight_hh are masked by it.
        dropout_key: 64-bit key of that mask.

    Raises:
        ValueError: a name is unknown or missing, or a shape does not fit the others; the message names it;
            precision, algo or cell is unknown.
        RuntimeError: precision or algo is not the device's, or precision not the dtype's.
        TypeError: the dtypes differ or are not float32 or float64.
    """
    return PackedWeights(weights, precision, algo, cell, weight_dropout, dropout_key)

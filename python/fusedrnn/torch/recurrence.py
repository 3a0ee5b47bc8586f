"""A call of a recurrent module on a padded batch: checks, choice of the way, results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter

from fusedrnn import _native
from fusedrnn.torch import dispatch, functorch, masks, on_cuda, ops
from fusedrnn.torch.flow import NOT_TRANSFORMED
from fusedrnn.torch.packing import packed
from fusedrnn.torch.precision import precision_of, require_on_cpu
from fusedrnn.torch.stack import NO_MARKS, Call, Marks, infer, readable, stack_of

_KEYS = 2**63 - 1
NO_PACKED_SEQUENCE = "a PackedSequence must be of plain tensors on the CPU: use a padded tensor and lengths="

if TYPE_CHECKING:
    from fusedrnn.torch.cells import Cell
    from fusedrnn.torch.modules import Recurrent


def run(
    module: Recurrent | Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Any = None,
    resets: Any = None,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, hn and cn (None without cell states) of x with three axes, or with batch_sizes packed."""
    weights = module._weights()
    in_graph = dispatch.in_graph()
    if dispatch.transformed() and torch.is_grad_enabled() and module._flow_place() is not None:
        raise NotImplementedError(NOT_TRANSFORMED)
    if not in_graph:
        x, h0, c0, batch_sizes = map(dispatch.outlived, (x, h0, c0, batch_sizes))
        weights = [w if type(w) is Parameter else dispatch.outlived(w) for w in weights]
    if lengths is None and resets is None and batch_sizes is None and not torch.is_grad_enabled():
        known = None if in_graph else _by_packing(module, weights, x, h0, c0)
        if known is not None:
            return known
    w = weights[0]
    autocast = torch.is_autocast_enabled("cpu")
    if autocast:
        x, h0, c0 = (_widened(t, w.dtype) for t in (x, h0, c0))
    _check(module, x, h0, c0, batch_sizes, w)
    if lengths is not None:
        lengths = marks(lengths)
        if lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths must be integers, they are {lengths.dtype}: use lengths.long()")
        lengths = lengths.to(torch.int64).contiguous()
    if resets is not None:
        resets = marks(resets).contiguous()
    x, h0, c0 = readable(x), readable(h0), readable(c0)
    given = weights
    weights, plain, wants = dispatch.looked_at(given, x, h0, c0)
    regularised = module._masks()
    draws = module.training and any(regularised)
    precision = precision_of(module.precision, w.dtype, autocast)
    ends = Marks(lengths, resets, batch_sizes)
    if not plain or in_graph:
        return _elsewhere(module, x, h0, c0, ends, weights, precision, wants, regularised, draws)
    call = plain_call(module, w.dtype, precision, regularised)
    if draws:
        call = call._replace(key=_dropout_key())
    if wants or draws or dispatch.transformed() or dispatch.dual():
        y, hn, *cell = dispatch.differentiated(call, x, h0, c0, ends, weights)
        return y, hn, cell[0] if cell else None
    packing = packed(module._packing, call.stack, given, weights)
    if packing is not module._packing:
        module.__dict__["_packing"] = packing
    return infer(call, x, h0, c0, ends, packing.block)


def _by_packing(
    module: Recurrent | Cell, weights: list[Tensor], x: Tensor, h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """The short way of a step without gradients, by the weights that the call before has packed.

    None where there are none, or the call is anything but plain: then `run` looks at all of it. Arguments are
    left to the checks of the native call, and looked at only where that refuses them.
    """
    packing = module._packing
    if (
        packing is None
        or packing.bytes is not None
        or torch.is_autocast_enabled("cpu")
        or dispatch.transformed()
        or dispatch.dual()
        or not packing.is_of(weights)
    ):
        return None
    regularised = module._masks()
    if module.training and any(regularised):
        return None
    call = plain_call(module, weights[0].dtype, module.precision or "ieee", regularised)
    if call.stack is not packing.stack:
        return None
    given = (x,) if h0 is None else (x, h0) if c0 is None else (x, h0, c0)
    if not all(map(dispatch.plain, given)):
        return None
    try:
        if not all(map(Tensor.is_contiguous, given)):
            x, h0, c0 = readable(x), readable(h0), readable(c0)
        return infer(call, x, h0, c0, NO_MARKS, packing.block)
    except Exception:
        _check(module, x, h0, c0, None, weights[0])
        raise


def _elsewhere(
    module: Recurrent | Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    ends: Marks,
    weights: list[Tensor],
    precision: str,
    wants: bool,
    regularised: masks.Masks,
    draws: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """On CUDA, or as a node of a graph that is being made."""
    if ends.batch_sizes is not None and (h0 is None or not dispatch.in_graph()):
        raise NotImplementedError(NO_PACKED_SEQUENCE)
    settings = ops.Settings(
        module._cell,
        module.num_layers,
        2 if module.bidirectional else 1,
        bool(module.bias),
        module.batch_first,
        precision,
        module._steps_between() if wants or dispatch.in_graph() else 0,
        regularised,
    )
    if x.is_cuda and not dispatch.in_graph():
        if wants and module._flow_place() is not None:
            raise NotImplementedError(on_cuda.missing("collect_flow=True", "set it to False"))
        key = _dropout_key() if draws else 0
        return on_cuda.run(settings, key, x, h0, c0, ends.lengths, ends.resets, weights, wants or draws)
    tensor_key = torch.randint(_KEYS, ()) if draws else None
    return ops.call(settings, x, h0, c0, ends, tensor_key, weights, wants or draws)


def marks(given: Any) -> Tensor:
    """Lengths or resets as a tensor; other arrays are copied, for PyTorch does not note writes to them."""
    if isinstance(given, Tensor):
        return given if dispatch.in_graph() else dispatch.outlived(given)
    try:
        return torch.tensor(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(
            "lengths and resets must be tensors, arrays or lists of numbers, one is of type "
            f"{type(given).__name__}"
        ) from None


def _dropout_key() -> int:
    """A key for masks, from PyTorch's generator."""
    try:
        return int(torch.randint(_KEYS, ()))
    except RuntimeError:
        if dispatch.transformed():  # vmap with randomness="different" gives a key for each sample
            raise NotImplementedError(functorch.NO_MAPPED_DROPOUT) from None
        raise


def projected_of(module: Recurrent | Cell) -> int:
    """proj_size, which cells that make one step have not."""
    return int(getattr(module, "proj_size", 0))


def plain_call(
    module: Recurrent | Cell, dtype: torch.dtype, precision: str, regularised: masks.Masks
) -> Call:
    """A call of the module's stack without a key of masks, described once while the module stays the same."""
    steps, place = module._steps_between(), module._flow_place()
    sort = (dtype, precision, module.batch_first, _native.backend(), regularised, steps, place)
    known = module._plain_call
    if known is not None and known[0] == sort:
        return known[1]
    require_on_cpu(precision, dtype)
    stack = stack_of(
        module._cell,
        module.num_layers,
        2 if module.bidirectional else 1,
        bool(module.bias),  # cells of torch.nn take None for False
        module.input_size,
        module.hidden_size,
        dtype,
        precision,
        _native.backend(),
        regularised.weight,
        projected_of(module),
    )
    call = Call(stack, module.batch_first, regularised, recompute=steps, flow=place)
    module.__dict__["_plain_call"] = (sort, call)
    return call


def _check(
    module: Recurrent | Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    batch_sizes: Tensor | None,
    w: Tensor,
) -> None:
    fits = (
        x.dtype is w.dtype
        and x.layout is torch.strided
        and x.shape[-1] == module.input_size
        and ((x.is_cpu and w.is_cpu) or x.device == w.device)
    )
    if fits and h0 is None and c0 is None:
        return
    if batch_sizes is None:
        rows = x.shape[0 if module.batch_first else 1]
    elif dispatch.in_graph() and h0 is not None:  # the op compares them
        rows = h0.shape[1]
    else:
        rows = int(batch_sizes[0])
    stacks, units = module.num_layers * (2 if module.bidirectional else 1), projected_of(module)
    expected = (stacks, rows, units or module.hidden_size), (stacks, rows, module.hidden_size)
    for state, sizes in zip((h0, c0), expected, strict=True):
        fits = fits and (
            state is None
            or (
                state.shape == sizes
                and state.dtype is w.dtype
                and state.layout is torch.strided
                and state.device == w.device
            )
        )
    if not fits:
        dispatch.require_dense("input", x)
        for state in (h0, c0):
            if state is not None:
                dispatch.require_dense("hx", state)
        module._refuse(x, h0, c0, expected, w)


def refuse_kind(x: Tensor, h0: Tensor | None, c0: Tensor | None, w: Tensor) -> NoReturn:
    """Raises what torch.nn does for tensors of unlike devices or dtypes."""
    if x.dtype != w.dtype:
        raise ValueError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({w.dtype}). "
            f"Convert input: input.to({w.dtype}), or convert model: model.to({x.dtype})"
        )
    if x.device != w.device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, found input tensor at "
            f"{x.device} and parameter tensor at {w.device}"
        )
    for state in (h0, c0):
        if state is not None and state.device != x.device:
            raise RuntimeError(
                "Input and hidden tensors are not at the same device, found input tensor at "
                f"{x.device} and hidden tensor at {state.device}"
            )
        if state is not None and state.dtype != x.dtype:
            raise RuntimeError(
                "Input and hidden tensors are not the same dtype, found input tensor with "
                f"{x.dtype} and hidden tensor with {state.dtype}"
            )
    raise AssertionError("an argument was refused that nothing is wrong with")


def _widened(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    narrow = t is not None and t.dtype != dtype and t.dtype in (torch.bfloat16, torch.float16)
    return t.to(dtype) if narrow and t is not None else t

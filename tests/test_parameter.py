"""Parameters: views of one aligned buffer, written only where a version counts it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fusedrnn._core.parameter import FlatBuffer, Parameter

SHAPES = {"weight": (5, 3), "bias": (5,), "scale": ()}


@pytest.fixture(params=[np.float32, np.float64])
def parameters(request: pytest.FixtureRequest) -> dict[str, Parameter]:
    return FlatBuffer.allocate(SHAPES, request.param)


def test_parameters_share_one_aligned_buffer(parameters: dict[str, Parameter]) -> None:
    buffers = {id(p._buffer) for p in parameters.values()}
    assert len(buffers) == 1
    for name, p in parameters.items():
        assert p.name == name
        assert p.shape == SHAPES[name]
        assert p.data.ctypes.data % 64 == 0
        assert p.grad.ctypes.data % 64 == 0
        assert np.shares_memory(p.data, p._buffer.data)
        assert np.shares_memory(p.grad, p._buffer.grad)
        assert p.data.ctypes.data == p._buffer.data.ctypes.data + p._offset * p.dtype.itemsize


def test_pieces_do_not_overlap(parameters: dict[str, Parameter]) -> None:
    for value, p in enumerate(parameters.values(), start=1):
        p.data = np.full(p.shape, value, p.dtype)
        p.grad = np.full(p.shape, -value, p.dtype)
    for value, p in enumerate(parameters.values(), start=1):
        assert np.all(p.data == value)
        assert np.all(p.grad == -value)
    buffer = parameters["weight"]._buffer
    assert np.count_nonzero(buffer.data) == sum(p.size for p in parameters.values())
    assert np.count_nonzero(buffer.grad) == sum(p.size for p in parameters.values())


def test_data_cannot_be_written_behind_the_version(parameters: dict[str, Parameter]) -> None:
    p = parameters["weight"]
    with pytest.raises(ValueError, match="read-only"):
        p.data[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        p.data.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        p.data[1:].flags.writeable = True


def test_every_write_counts(parameters: dict[str, Parameter]) -> None:
    p = parameters["weight"]
    start = p.version
    p.data = np.ones(p.shape, p.dtype)
    assert p.version == start + 1
    with p.writable() as w:
        w[1] = 7
        assert np.all(p.data == 1)
    assert p.version == start + 2
    assert parameters["bias"].version == start + 2
    assert np.all(p.data[1] == 7)
    w[...] = 9
    assert np.all(p.data[1] == 7)


def test_a_block_that_raises_writes_nothing(parameters: dict[str, Parameter]) -> None:
    p = parameters["weight"]
    start = p.version

    def write_a_part_and_fail() -> None:
        with p.writable() as w:
            w[...] = 3
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_a_part_and_fail()
    assert np.all(p.data == 0)
    assert p.version == start


def test_gradient_is_an_ordinary_array(parameters: dict[str, Parameter]) -> None:
    p = parameters["weight"]
    start = p.version
    p.grad += 2
    p.grad[0] = 5
    assert p._buffer.grad[p._offset] == 5
    assert p._buffer.grad[p._offset + 3] == 2
    p.grad = np.full(p.shape, 4, p.dtype)
    assert p._buffer.grad[p._offset] == 4
    p.zero_grad()
    assert not p.grad.any()
    assert p.version == start


@pytest.mark.parametrize("attribute", ["data", "grad"])
def test_wrong_arrays_are_named(attribute: str) -> None:
    p = FlatBuffer.allocate(SHAPES, np.float32)["weight"]
    before = p.version
    with pytest.raises(TypeError, match=rf"weight\.{attribute} must be float32, it is float64.*astype"):
        setattr(p, attribute, np.zeros((5, 3)))
    with pytest.raises(ValueError, match=rf"weight\.{attribute} must have shape \(5, 3\), it has \(3, 5\)"):
        setattr(p, attribute, np.zeros((3, 5), np.float32))
    with pytest.raises(TypeError, match=rf"weight\.{attribute} must be a NumPy array, it is float"):
        setattr(p, attribute, 0.0)
    assert p.version == before


def test_own_parameter_copies_its_array() -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3).T
    p = Parameter(array, "weight")
    array[0, 0] = 99
    assert p.data.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert p.data.flags.c_contiguous
    assert p.data.ctypes.data % 64 == 0
    with pytest.raises(TypeError, match="array must be float32 or float64, its dtype is int64"):
        Parameter(np.arange(3))
    with pytest.raises(TypeError, match="array must be a NumPy array or a DeviceArray, it is list"):
        Parameter([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_share_a_buffer_among_themselves_only(duplicate) -> None:
    parameters = FlatBuffer.allocate(SHAPES, np.float32)
    parameters["weight"].data = np.full((5, 3), 2, np.float32)
    parameters["bias"].grad = np.full(5, 3, np.float32)
    twins = duplicate(parameters)
    assert len({id(p._buffer) for p in twins.values()}) == 1
    assert twins["weight"]._buffer is not parameters["weight"]._buffer
    assert np.all(twins["weight"].data == 2)
    assert np.all(twins["bias"].grad == 3)
    assert twins["bias"].data.ctypes.data % 64 == 0
    assert np.shares_memory(twins["bias"].grad, twins["weight"]._buffer.grad)
    twins["weight"].data = np.zeros((5, 3), np.float32)
    assert np.all(parameters["weight"].data == 2)
    assert parameters["weight"].version != twins["weight"].version

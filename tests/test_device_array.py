"""Arrays on the CUDA device: made, read, shared with other libraries without a copy; streams; lifetimes."""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from typing import Any

import dlpack
import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _native

pytestmark = [pytest.mark.parity, pytest.mark.cuda]
DTYPES = [np.float32, np.float64, np.int64, np.bool_]
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def address(array: Any) -> int:
    """Where its first element is."""
    return int(array.__cuda_array_interface__["data"][0])


# ------------------------------------------------------------------------------------- there and back
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3, 4)])
def test_arrays_go_there_and_back(dtype: Any, shape: tuple[int, ...]) -> None:
    x = (np.arange(int(np.prod(shape))) % 3).reshape(shape).astype(dtype)
    a = fr.asarray(x)
    assert isinstance(a, fr.DeviceArray)
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes) == (x.shape, x.dtype, x.ndim, x.size, x.nbytes)
    assert not a.readonly
    back = a.numpy()
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(fr.asarray(a, "cpu"), x)
    assert fr.asarray(a) is a
    assert a.device.endswith(":0")
    assert repr(a) == f"DeviceArray(shape={shape}, dtype={np.dtype(dtype)}, device={a.device})"


def test_it_is_a_copy_of_any_strides() -> None:
    x = X.copy()
    a = fr.asarray(x)
    x[...] = 0
    np.testing.assert_array_equal(a.numpy(), X)
    for view in (X.T, X[:, ::-1], X[::2, 1:, ::2]):
        np.testing.assert_array_equal(fr.asarray(view).numpy(), view)
    np.testing.assert_array_equal(fr.asarray([[1.0, 2.0]]).numpy(), [[1.0, 2.0]])
    host = a.numpy()
    host[...] = 0
    np.testing.assert_array_equal(a.numpy(), X)


def test_copy_fill_and_len() -> None:
    a = fr.asarray(X)
    b = a.copy()
    assert address(a) != address(b)
    b.fill(2.5)
    assert (b.numpy() == 2.5).all()
    b.fill(0)
    assert not b.numpy().any()
    np.testing.assert_array_equal(a.numpy(), X)
    assert len(a) == 2
    with pytest.raises(TypeError, match="len"):
        len(fr.asarray(np.float32(1)))


def test_it_becomes_no_numpy_array_unasked() -> None:
    with pytest.raises(TypeError, match=r"not turned into a NumPy array unasked: use its numpy\(\)"):
        np.asarray(fr.asarray(X))


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.complex64, ">f4"])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    must = "of real numbers" if dtype is np.complex64 else "float32, float64, int64 or bool"
    with pytest.raises(TypeError, match=f"x must be {must}, it is"):
        fr.asarray(np.zeros(3, dtype))


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', it is 'cuda:1'"):
        fr.asarray(X, device="cuda:1")


# ------------------------------------------------------------------------------------ to other libraries
@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 1), (2, 0)])
def test_dlpack_export(version: tuple[int, int] | None) -> None:
    a = fr.asarray(X)
    kind, index = a.__dlpack_device__()
    managed = dlpack.consume(a.__dlpack__(max_version=version))
    assert isinstance(managed, dlpack.Versioned if version and version[0] >= 1 else dlpack.Plain)
    if isinstance(managed, dlpack.Versioned):
        assert (managed.major, managed.flags) == (1, 0)
    t = managed.tensor
    assert (t.device_type, t.device, t.axes) == (kind, index, 3)
    assert (t.code, t.bits, t.lanes, t.offset) == (2, 32, 1, 0)
    assert (t.data, t.sizes[:3], t.strides[:3]) == (address(a), [2, 3, 4], [12, 4, 1])
    dlpack.free(managed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_types(dtype: Any) -> None:
    a = fr.asarray(np.ones(3, dtype))
    assert fr.asarray(dlpack.Producer(a)).dtype == dtype
    managed = dlpack.consume(a.__dlpack__())
    t = managed.tensor
    assert (t.code, t.bits) == (dlpack.CODES[np.dtype(dtype).kind], 8 * np.dtype(dtype).itemsize)
    dlpack.free(managed)


def test_dlpack_options() -> None:
    a = fr.asarray(X)
    here = a.__dlpack_device__()
    for stream in (None, -1, 1, 2, 0x7F0000001230):
        dlpack.free(dlpack.consume(a.__dlpack__(stream=stream, dl_device=here, copy=False)))
    with pytest.raises(ValueError, match=r"stream must be .*, it is 0, which is ambiguous"):
        a.__dlpack__(stream=0)
    with pytest.raises(TypeError, match="stream must be an integer"):
        a.__dlpack__(stream="1")
    with pytest.raises(BufferError, match=r"can be exported there only: use numpy\(\)"):
        a.__dlpack__(dl_device=(1, 0))
    managed = dlpack.consume(a.__dlpack__(copy=True))
    assert managed.tensor.data != address(a)
    dlpack.free(managed)


def test_read_only_arrays_are_exported_as_such() -> None:
    p = fr.nn.Parameter(fr.asarray(X)).data
    assert p.__cuda_array_interface__["data"][1] is True
    managed = dlpack.consume(p.__dlpack__(max_version=(1, 0)))
    assert managed.flags == 1
    dlpack.free(managed)
    with pytest.raises(
        BufferError, match=r"read-only, which DLPack before version 1\.0 cannot say: use copy\(\)"
    ):
        p.__dlpack__()
    assert fr.asarray(dlpack.Interface(p)).readonly
    assert fr.asarray(dlpack.Producer(p, flags=1)).readonly
    assert not fr.asarray(dlpack.Producer(fr.asarray(X))).readonly


def test_cuda_array_interface() -> None:
    a = fr.asarray(X)
    a.numpy()
    assert a.__cuda_array_interface__ == {
        "shape": (2, 3, 4),
        "typestr": "<f4",
        "data": (address(a), False),
        "strides": None,
        "version": 3,
        "stream": None,  # nothing is under way
    }
    gapped = fr.asarray(dlpack.Interface(a, shape=(2, 4), strides=(48, 4)))
    assert gapped.__cuda_array_interface__["strides"] == (48, 4)
    np.testing.assert_array_equal(gapped.numpy(), X[:, 0])


# ---------------------------------------------------------------------------------- from other libraries
@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_import_shares_memory(versioned: bool) -> None:
    a = fr.asarray(X)
    producer = dlpack.Producer(a, versioned)
    b = fr.asarray(producer)
    assert address(b) == address(a)
    a.fill(7)
    assert (b.numpy() == 7).all()
    assert producer.streams == [1]


def test_dlpack_import_of_views() -> None:
    a = fr.asarray(X)
    strides = (ctypes.c_int64 * 3)(1, 4, 12)
    sizes = (ctypes.c_int64 * 3)(4, 3, 2)
    np.testing.assert_array_equal(fr.asarray(dlpack.Producer(a, sizes=sizes, strides=strides)).numpy(), X.T)
    part = dlpack.Producer(a, axes=1, sizes=(ctypes.c_int64 * 1)(5), offset=8)
    np.testing.assert_array_equal(fr.asarray(part).numpy(), X.reshape(-1)[2:7])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"bits": 16},
            TypeError,
            "x must be float32, float64, int64 or bool, it is of DLPack's type 2 with 16",
        ),
        ({"lanes": 4}, TypeError, "x must be float32, float64, int64 or bool"),
        (
            {"device": 1},
            ValueError,
            r"x must be on \w+:0, the calling thread's device, it is on \w+:1: copy it",
        ),
        ({"device_type": 1}, ValueError, "x must be in memory of DLPack's kind"),
        ({"strides": (ctypes.c_int64 * 3)(12, -4, 1)}, ValueError, "strides that are not negative"),
    ],
)
def test_dlpack_import_refuses(fields: dict[str, Any], error: type, message: str) -> None:
    producer = dlpack.Producer(fr.asarray(X), **fields)
    with pytest.raises(error, match=message):
        fr.asarray(producer)
    assert producer.deleted == 1


def test_memory_of_the_host_is_refused() -> None:
    a = fr.asarray(X)
    at = X.ctypes.data
    with pytest.raises(ValueError, match=r"x must be on \w+:0, .*, it is in no device's memory"):
        fr.asarray(dlpack.Producer(a, data=at))
    with pytest.raises(ValueError, match=r"x must be on \w+:0, .*, it is in no device's memory"):
        fr.asarray(dlpack.Interface(a, data=(at, False)))


def test_interface_import() -> None:
    a = fr.asarray(X)
    view = fr.asarray(dlpack.Interface(a, shape=(2, 3), strides=(4, 16), stream=1))
    np.testing.assert_array_equal(view.numpy(), X[0, :3, :2].T)
    with pytest.raises(TypeError, match="x must be float32, float64, int64 or bool, it is int32"):
        fr.asarray(dlpack.Interface(a, typestr="<i4"))
    with pytest.raises(ValueError, match="strides must be multiples of the element size, it is 6"):
        fr.asarray(dlpack.Interface(a, strides=(48, 6, 4)))


def test_modules_take_them_without_a_copy() -> None:
    gru = fr.nn.GRU(4, 5, device="cuda", seed=0)
    a = fr.asarray(X)
    expected = gru(a)[0].numpy()
    for foreign in (dlpack.Producer(a), dlpack.Producer(a, versioned=False), dlpack.Interface(a)):
        y, hn = gru(foreign, dlpack.Interface(fr.asarray(np.zeros((1, 3, 5), np.float32))))
        np.testing.assert_array_equal(y.numpy(), expected)
        dx, _ = gru.backward(dlpack.Interface(y), dlpack.Producer(hn))
        assert dx.shape == X.shape
    packed = fr.functional.pack_weights({n: dlpack.Interface(p.data) for n, p in gru.named_parameters()})
    y = fr.functional.gru_forward(dlpack.Producer(a), None, packed)[0]
    np.testing.assert_array_equal(y.numpy(), expected)
    cpu = fr.nn.GRU(4, 5, seed=1)
    cpu.load_state_dict({n: dlpack.Interface(p.data) for n, p in gru.named_parameters()})
    np.testing.assert_array_equal(cpu.weight_hh_l0.data, gru.weight_hh_l0.numpy())


# --------------------------------------------------------------------------------------------- lifetimes
def in_use() -> int:
    """Bytes of the emulator's memory that are in use, which it says where there is not enough."""
    gc.collect()
    with pytest.raises(MemoryError) as caught:
        _native.device_zeros((1 << 50,), np.float64)
    return int(str(caught.value).rsplit("out of memory, ", 1)[1].split()[0])


emulator = pytest.mark.skipif(
    _native.cuda_info()["memory"] != 12, reason="the emulator alone tells what is in use"
)


@emulator
def test_memory_is_given_back() -> None:
    before = in_use()
    a = fr.asarray(X)
    assert in_use() == before + X.nbytes
    b = a.copy()
    del a
    assert in_use() == before + X.nbytes
    del b
    assert in_use() == before
    lstm = fr.nn.LSTM(4, 5, 2, device="cuda", seed=0)
    lstm.backward(lstm(fr.asarray(X))[0])
    assert in_use() > before
    del lstm
    gc.collect()
    assert in_use() == before


@emulator
@pytest.mark.parametrize("version", [None, (1, 0)])
def test_exports_keep_memory_as_long_as_needed(version: tuple[int, int] | None) -> None:
    before = in_use()
    capsule = fr.asarray(X).__dlpack__(max_version=version)
    assert in_use() == before + X.nbytes
    del capsule  # nobody took it
    assert in_use() == before
    capsule = fr.asarray(X).__dlpack__(max_version=version)
    managed = dlpack.consume(capsule)
    del capsule  # the array and the capsule are gone, the consumer goes on
    assert in_use() == before + X.nbytes
    data = (ctypes.c_float * 24).from_address(managed.tensor.data)
    assert list(data) == X.reshape(-1).tolist()
    dlpack.free(managed)
    assert in_use() == before


@pytest.mark.parametrize("versioned", [True, False])
def test_imports_are_given_back_once(versioned: bool) -> None:
    producer = dlpack.Producer(fr.asarray(X), versioned)
    first, second = fr.asarray(producer), fr.asarray(producer)
    assert producer.deleted == 0
    del first
    fr.asarray(X).numpy()  # until all work is done an array is held
    assert producer.deleted == 1
    lstm = fr.nn.LSTM(4, 5, device="cuda", seed=0)
    y = lstm(second)[0]
    del second
    y.numpy()  # until all work is done; the module has a copy
    assert producer.deleted == 2
    lstm.backward(y)


def test_interface_keeps_its_owner() -> None:
    producer = dlpack.Interface(fr.asarray(X))
    kept = weakref.ref(producer)
    a = fr.asarray(producer)
    del producer
    assert kept() is not None
    np.testing.assert_array_equal(a.numpy(), X)
    del a
    assert kept() is None


def test_capsule_is_taken_once() -> None:
    capsule = fr.asarray(X).__dlpack__()
    a = _native.device_array_from_dlpack(capsule)
    np.testing.assert_array_equal(a.numpy(), X)
    with pytest.raises(ValueError, match="capsule must be a DLPack tensor, it is named 'used_dltensor'"):
        _native.device_array_from_dlpack(capsule)


# ----------------------------------------------------------------------------------------------- streams
class CudaStream:
    """As cuda.core's."""

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, 0x5000)


class TorchStream:
    """As PyTorch's."""

    cuda_stream = 0x6000


class CupyStream:
    """As CuPy's."""

    ptr = 0x7000


@pytest.mark.parametrize(
    ("handle", "number"),
    [(0x4000, 0x4000), (CudaStream(), 0x5000), (TorchStream(), 0x6000), (CupyStream(), 0x7000)],
)
def test_stream_is_the_threads_own(handle: Any, number: int) -> None:
    """Producers are asked for readiness on it."""
    producer = dlpack.Producer(fr.asarray(X))
    seen: list[int] = []
    with fr.cuda.stream(handle):
        fr.asarray(producer)
        with fr.cuda.stream(0x9000):
            fr.asarray(producer)
        other = threading.Thread(target=lambda: seen.append(_native.current_stream()))
        other.start()
        other.join()
        fr.asarray(producer)
    fr.asarray(producer)
    assert producer.streams == [number, 0x9000, number, 1]
    assert seen == [0]


@emulator
def test_all_work_goes_to_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator refuses work for any other."""
    monkeypatch.setenv("FUSEDRNN_SIMT_STREAM", "0x5000")
    weights = fr.nn.LSTM(4, 5, 2, bidirectional=True).state_dict()
    with pytest.raises(
        RuntimeError, match=r"alloc_on on stream 0 at cuda/plugin\.cu:\d+: FUSEDRNN_SIMT_STREAM allows"
    ):
        fr.asarray(X)
    with fr.cuda.stream(0x5000):
        lstm = fr.nn.LSTM(4, 5, 2, bidirectional=True, device="cuda", seed=0)
        lstm.load_state_dict(weights)
        state = fr.asarray(np.ones((4, 3, 5), np.float32))
        gapped = dlpack.Interface(
            fr.asarray(np.ones((8, 3, 5), np.float32)), shape=(4, 3, 5), strides=(120, 20, 4)
        )
        lengths, resets = fr.asarray(np.array([2, 0, 1])), fr.asarray(np.zeros((2, 3), np.bool_))
        y, (hn, cn) = lstm(fr.asarray(X), (state, gapped), lengths, resets)
        lstm.backward(y, (hn, cn))
        assert lstm.tape is not None
        assert lstm.tape.cells is not None
        assert lstm.tape.gates is not None
        lstm.zero_grad()
        lstm.weight_hh_l0.data = lstm.weight_hh_l0.data.copy()
        lstm.eval()(fr.asarray(X))
        assert np.isfinite(y.numpy()).all()
    with pytest.raises(RuntimeError, match="FUSEDRNN_SIMT_STREAM allows"):
        y.numpy()


def test_stream_is_left_by_an_error() -> None:
    with pytest.raises(KeyError), fr.cuda.stream(0x4000):
        raise KeyError
    assert _native.current_stream() == 0


@pytest.mark.parametrize("handle", [None, -1, 1.5, "1", True])
def test_no_stream(handle: Any) -> None:
    with pytest.raises(TypeError, match="handle must be an int of at least 0 or a stream, it is"):
        fr.cuda.stream(handle).__enter__()

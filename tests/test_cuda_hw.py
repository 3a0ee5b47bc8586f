"""The hardware layer's host side by nvcc: every failure of a CUDA call names the call, its place and why.

Over a CUDA runtime made for the purpose (hw/runtime.cpp), so that no GPU is needed; nvcc is.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HW = Path(__file__).with_name("hw")
ROOT = HW.parents[1]
OUT_OF_MEMORY, DEVICE_ERROR = 2, 4  # of backend.hpp's Status
NO_MEMORY, LAUNCH_FAILED, BAD_ADDRESS = 2, 719, 700  # of cudaError_t
INVALID_VALUE, INVALID_CONFIGURATION, INVALID_CLUSTER_SIZE, ILLEGAL_STATE = 1, 9, 912, 401
CAPTURE_UNSUPPORTED, CAPTURE_ISOLATION, CAPTURE_IMPLICIT, CAPTURED_EVENT = 900, 905, 906, 907
LAUNCH = r"a_kernel over 7 x 2 x 1 blocks of 128 threads, clusters of 1, 65536 bytes of shared memory"


@pytest.fixture(scope="module")
def hw(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The layer over that runtime."""
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        pytest.skip("no nvcc to compile it with")
    library = tmp_path_factory.mktemp("hw") / "libhw.so"
    options = ["-std=c++17", "-DNDEBUG", "-arch=sm_80", "-cudart=none", "-shared"]
    options += ["-Xcompiler=-fPIC,-fvisibility=hidden"]
    paths = [f"-I{ROOT}/cuda", f"-I{ROOT}/csrc", HW / "hw.cu", HW / "runtime.cpp", "-o", library]
    built = subprocess.run([nvcc, *options, *map(str, paths)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    loaded = ctypes.CDLL(str(library))
    loaded.device_of.argtypes = [ctypes.c_size_t]
    return loaded


def ask(hw: ctypes.CDLL, what: str, call: str = "", error: int = 0, pinned: bool = False) -> tuple[int, str]:
    """Status and text of a function of the layer while a call of the runtime fails."""
    text = ctypes.create_string_buffer(1024)
    status = hw.ask(what.encode(), call.encode(), error, int(pinned), text, len(text))
    return status, text.value.decode()


@pytest.mark.parametrize(
    ("what", "call", "text"),
    [
        ("alloc", "cudaMalloc", r"cudaMalloc\(1048576\)"),
        ("free", "cudaFree", r"cudaFree\(0x1000\)"),
        ("copy", "cudaMemcpyAsync", r"cudaMemcpyAsync\(0x1000, 0x1040, 64\)"),
        ("copy", "cudaPointerGetAttributes", r"cudaPointerGetAttributes\(0x1000\)"),
        ("fill", "cudaMemsetAsync", r"cudaMemsetAsync\(0x1000, 255, 64\)"),
        ("synchronize", "cudaStreamSynchronize", r"cudaStreamSynchronize\((0x0|\(nil\))\)"),
        ("current_device", "cudaGetDevice", "cudaGetDevice"),
        ("device_of", "cudaPointerGetAttributes", r"cudaPointerGetAttributes\(0x1000\)"),
        ("device_info", "cudaGetDevice", "cudaGetDevice"),
        ("device_info", "cudaGetDeviceProperties", r"cudaGetDeviceProperties\(2\)"),
        ("alloc_on", "cudaStreamIsCapturing", r"cudaStreamIsCapturing\(0x6000\)"),
        ("alloc_on", "cudaMemPoolCreate", r"cudaMemPoolCreate on device \d+"),
        (
            "alloc_on",
            "cudaMemPoolSetAttribute",
            r"cudaMemPoolSetAttribute\(cudaMemPoolAttrReleaseThreshold\)",
        ),
        ("alloc_on", "cudaMallocFromPoolAsync", r"cudaMallocFromPoolAsync\(1048576, 0x6000\)"),
        ("trim", "cudaDeviceSynchronize", "cudaDeviceSynchronize"),
        ("trim", "cudaMemPoolTrimTo", r"cudaMemPoolTrimTo\(0x2000, 0\)"),
        ("free_on", "cudaFreeAsync", r"cudaFreeAsync\(0x1000, 0x6000\)"),
        ("event_create", "cudaEventCreateWithFlags", "cudaEventCreateWithFlags"),
        ("event_free", "cudaEventDestroy", r"cudaEventDestroy\(0x3000\)"),
        ("event_record", "cudaEventRecord", r"cudaEventRecord\(0x3000, 0x6000\)"),
        ("event_wait", "cudaStreamWaitEvent", r"cudaStreamWaitEvent\(0x6000, 0x3000\)"),
        ("event_query", "cudaEventQuery", r"cudaEventQuery\(0x3000\)"),
        ("capturing", "cudaStreamIsCapturing", r"cudaStreamIsCapturing\(0x6000\)"),
        ("capture_begin", "cudaStreamCreateWithFlags", "cudaStreamCreateWithFlags"),
        ("capture_begin", "cudaStreamBeginCapture", r"cudaStreamBeginCapture\(0x6000\)"),
        ("capture_end", "cudaStreamEndCapture", r"cudaStreamEndCapture\(0x6000\)"),
        ("capture_end", "cudaStreamDestroy", r"cudaStreamDestroy\(0x6000\)"),
        ("capture_end", "cudaGraphInstantiate", r"cudaGraphInstantiate\(0x4000\)"),
        ("capture_end", "cudaGraphDestroy", r"cudaGraphDestroy\(0x4000\)"),
        ("graph_launch", "cudaGraphLaunch", r"cudaGraphLaunch\(0x7000, 0x6000\)"),
        ("graph_free", "cudaGraphExecDestroy", r"cudaGraphExecDestroy\(0x7000\)"),
        ("launch", "cudaFuncSetAttribute", "cudaFuncSetAttribute of " + LAUNCH),
        ("launch", "cudaLaunchKernelExC", "cudaLaunchKernelExC of " + LAUNCH),
        ("cooperative launch", "cudaFuncSetAttribute", f"cudaFuncSetAttribute of {LAUNCH}, cooperative"),
        (
            "cooperative launch",
            "cudaLaunchKernelExC, cooperative",
            f"cudaLaunchKernelExC of {LAUNCH}, cooperative",
        ),
        (
            "blocks_at_once",
            "cudaOccupancyMaxActiveBlocksPerMultiprocessor",
            f"cudaOccupancyMaxActiveBlocksPerMultiprocessor of {LAUNCH}, cooperative",
        ),
        ("blocks_at_once", "cudaDeviceGetAttribute 16", r"cudaDeviceGetAttribute\(16, 64\)"),
        ("launch", "cudaDeviceGetAttribute 97", r"cudaDeviceGetAttribute\(97, 64\)"),
    ],
)
def test_failures_name_call_and_place(hw: ctypes.CDLL, what: str, call: str, text: str) -> None:
    assert ask(hw, what) == (0, "")
    place = r" at (tests/hw/hw\.cu|cuda/hw/\w+_cuda\.cuh):\d+: "
    for error in (LAUNCH_FAILED, BAD_ADDRESS):
        status, message = ask(hw, what, call, error)
        assert status == DEVICE_ERROR
        assert re.fullmatch(f"{text}{place}error {error}", message), message
    status, message = ask(hw, what, call, NO_MEMORY)
    assert status == OUT_OF_MEMORY
    assert re.fullmatch(f"{text}{place}out of memory", message), message
    assert ask(hw, what) == (0, "")


def test_copies_of_pinned_memory_are_waited_for(hw: ctypes.CDLL) -> None:
    assert ask(hw, "copy", "cudaStreamSynchronize", LAUNCH_FAILED) == (0, "")
    status, message = ask(hw, "copy", "cudaStreamSynchronize", LAUNCH_FAILED, pinned=True)
    assert status == DEVICE_ERROR
    assert message.startswith("cudaStreamSynchronize(")


@pytest.mark.parametrize("what", ["launch", "cooperative launch", "blocks_at_once"])
def test_kernels_may_have_all_shared_memory(hw: ctypes.CDLL, what: str) -> None:
    """A kernel's limit is one for all threads: what this launch needs would be too little for another's."""
    assert ask(hw, what) == (0, "")
    assert hw.allowed() == 200000
    assert hw.carved() == 100  # percent: two launches that overlap need all that there is


def test_grids_of_more_blocks_than_there_are(hw: ctypes.CDLL) -> None:
    status, message = ask(hw, "uncountable launch")
    assert status != 0
    assert re.fullmatch(
        r"launch at tests/hw/hw\.cu:\d+: 1 x 1 x 65536 blocks are more than a GPU counts, .*", message
    ), message


@pytest.mark.parametrize("device", [40, 41])
@pytest.mark.parametrize("cluster", [1, 16])
def test_a_launch_is_two_calls(hw: ctypes.CDLL, device: int, cluster: int) -> None:
    """Which device it is, and the launch: what a kernel has to be asked for is asked once for each device."""
    assert hw.calls_of_launch(device, cluster) == 2


def test_work_under_way_is_no_failure(hw: ctypes.CDLL) -> None:
    not_ready = 600
    assert ask(hw, "event_query") == (0, "")
    status, message = ask(hw, "event_query", "cudaEventQuery", not_ready)
    assert (status, message) == (1, "not yet")


def test_captured_streams(hw: ctypes.CDLL) -> None:
    """Memory is not made a part of somebody's graph unasked; what a graph shall hold needs one."""
    status, message = ask(hw, "capture_hold")
    assert status == DEVICE_ERROR
    assert re.fullmatch(
        r"capture_hold at tests/hw/hw\.cu:\d+: stream 0x6000 is not being captured .*", message
    )
    hw.capture(1)
    try:
        assert ask(hw, "capture_hold") == (0, "")
        for call in ("cudaUserObjectCreate", "cudaGraphRetainUserObject", "cudaStreamGetCaptureInfo"):
            status, message = ask(hw, "capture_hold", call, LAUNCH_FAILED)
            assert (status, message.startswith(call)) == (DEVICE_ERROR, True)
        for what in ("alloc_on", "free_on"):
            status, message = ask(hw, what)
            assert status == DEVICE_ERROR
            assert re.fullmatch(
                what + r" at tests/hw/hw\.cu:\d+: stream 0x6000 is being captured into a graph", message
            )
    finally:
        hw.capture(0)


@pytest.mark.parametrize(
    ("what", "call", "status", "destroyed"),
    [
        ("capture_begin", "cudaStreamBeginCapture", DEVICE_ERROR, 1),
        ("capture_end", "", 0, 2),
        ("capture_end", "cudaStreamEndCapture", DEVICE_ERROR, 1),
        ("capture_end", "cudaGraphInstantiate", DEVICE_ERROR, 2),
        ("capture_drop", "", 0, 2),
        ("capture_drop", "cudaStreamEndCapture", 0, 1),
    ],
)
def test_nothing_of_a_capture_is_left(
    hw: ctypes.CDLL, what: str, call: str, status: int, destroyed: int
) -> None:
    """Its stream, and the graph that an executable one was made of."""
    assert ask(hw, what, call, LAUNCH_FAILED)[0] == status
    assert hw.destroyed() == destroyed


def test_whose_memory_it_is(hw: ctypes.CDLL) -> None:
    assert ask(hw, "alloc") == (0, "")
    assert hw.device_of(0x1000) == 3
    assert hw.device_of(0) == -1
    ask(hw, "alloc", pinned=True)
    assert hw.device_of(0x1000) == -1


def test_how_many_blocks_run_at_once(hw: ctypes.CDLL) -> None:
    """Three on each of five multiprocessors."""
    assert ask(hw, "blocks_at_once") == (0, "")
    assert hw.last_at_once() == 15


@pytest.mark.parametrize(
    ("cluster", "most", "found"),
    [
        (1, 16, 15),  # blocks alone are no clusters: counted as blocks
        (2, 16, 24),
        (8, 16, 6),
        (16, 16, 3),
        (16, 8, 0),  # a device without such clusters has room for none, and is no failure
        (17, 16, 0),
    ],
)
def test_how_many_clusters_run_at_once(hw: ctypes.CDLL, cluster: int, most: int, found: int) -> None:
    text = ctypes.create_string_buffer(1024)
    assert hw.clusters(cluster, most, text, len(text)) == found, text.value


def test_clusters_that_do_not_divide_the_grid(hw: ctypes.CDLL) -> None:
    text = ctypes.create_string_buffer(1024)
    assert hw.clusters(7, 16, text, len(text)) == -1
    assert b"cudaOccupancyMaxActiveClusters of a_kernel over 240 x 1 x 1 blocks" in text.value


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("nothing", 0),
        ("more threads than a block has", INVALID_CONFIGURATION),
        ("a grid of many layers", INVALID_CONFIGURATION),
        ("a grid of none", INVALID_CONFIGURATION),
        ("shared memory unasked", INVALID_VALUE),
        ("more than there is", INVALID_VALUE),
        ("clusters that do not divide", INVALID_CONFIGURATION),
        ("large clusters unasked", INVALID_CLUSTER_SIZE),
        ("clusters of no size", INVALID_VALUE),
        ("the end of no capture", ILLEGAL_STATE),
        ("a capture within one", ILLEGAL_STATE),
        ("the legacy stream beside one", CAPTURE_IMPLICIT),
        ("a wait for it", CAPTURE_UNSUPPORTED),
        ("a question about its event", CAPTURED_EVENT),
        ("an event from outside", CAPTURE_ISOLATION),
        ("memory within one", CAPTURE_UNSUPPORTED),
    ],
)
def test_the_runtime_keeps_its_contract(hw: ctypes.CDLL, what: str, error: int) -> None:
    """What the layer is tested over refuses what CUDA's documentation forbids."""
    assert hw.forbidden(what.encode()) == error


@pytest.mark.parametrize(
    "what", ["alloc", "free", "alloc_on", "free_on", "trim", "event_query", "capture_end", "capture_drop"]
)
def test_beside_captures_of_other_threads(hw: ctypes.CDLL, what: str) -> None:
    """In the mode `global`, as PyTorch's are: none of these may be refused, or spoil one."""
    hw.others_capture(1)
    try:
        assert ask(hw, what) == (0, "")
    finally:
        hw.others_capture(0)


def test_machine(hw: ctypes.CDLL) -> None:
    """A GPU of capability 7.5 before kernels for 8.0; a driver that cannot count devices."""
    text = ctypes.create_string_buffer(1024)
    assert not hw.why_not(b"", 0, text, len(text))
    assert text.value.startswith(b"GPU has compute capability 7.5, and this build has kernels for 8.0")
    assert not hw.why_not(b"cudaGetDeviceCount", LAUNCH_FAILED, text, len(text))
    assert text.value.startswith(b"the NVIDIA driver does not answer: error 719")
    assert not hw.why_not(b"cudaGetDeviceCount", 100, text, len(text))
    assert text.value.startswith(b"the NVIDIA driver finds no GPU")

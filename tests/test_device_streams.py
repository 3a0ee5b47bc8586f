"""Calls with device arrays put their work into a stream and return: what waits for what, what lives how long.

On the emulator work runs no sooner than somebody waits for it, or by a drawn order: what a dependency that is
left out gives is a wrong result, a fault of a kernel, or memory that is not given back.
"""

from __future__ import annotations

import gc
import os
import queue
import threading
from typing import Any

import dlpack
import numpy as np
import pytest
import streams
from streams import Graph, address, captured, pending

import fusedrnn as fr
from fusedrnn import _native, functional

pytestmark = [
    pytest.mark.parity,
    pytest.mark.cuda,
    pytest.mark.skipif(
        not streams.EMULATED, reason="the emulator alone puts work off until it is waited for"
    ),
]
A, B, C = 0xA000, 0xB000, 0xC000
LEGACY, OF_THREAD = 1, 2
X = np.random.default_rng(1).standard_normal((5, 3, 4)).astype(np.float32)
W = 2 * np.eye(4, dtype=np.float32)


@pytest.fixture(params=[0, 1, 2, 3])
def schedule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """When work runs: with 0 as late as can be, else as drawn."""
    monkeypatch.setenv("FUSEDRNN_SIMT_SEED", str(request.param))
    return int(request.param)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work runs as late as can be."""
    monkeypatch.setenv("FUSEDRNN_SIMT_SEED", "0")


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """No test leaves work to the next."""
    yield
    gc.collect()
    in_use()


def in_use() -> int:
    """Bytes of the device's memory that are in use when all is done that can be."""
    gc.collect()
    with pytest.raises(MemoryError) as caught:
        _native.device_zeros((1 << 50,), np.float64)
    return int(str(caught.value).rsplit("out of memory, ", 1)[1].split()[0])


def gru(**options: Any) -> fr.nn.GRU:
    """A small GRU on the device, ready."""
    module = fr.nn.GRU(4, 6, device="cuda", seed=0, **options)
    in_use()
    return module


def results(module: fr.nn.GRU, x: Any) -> list[bytes]:
    """The bits of a forward and a backward."""
    module.zero_grad()
    y, hn = module(x)
    dx, dh0 = module.backward(y, hn)
    return [a.numpy().tobytes() for a in (y, hn, dx, dh0, *(p.grad for p in module.parameters()))]


# ---------------------------------------------------------------------------------------- calls do not wait
@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("stream", [0, A, OF_THREAD])
def test_calls_return_before_their_work_is_done(stream: int) -> None:
    module, expected = gru(), results(gru(), fr.asarray(X))
    with fr.cuda.stream(stream):
        x = fr.asarray(X)
        before = pending(stream)
        module.zero_grad()
        y, hn = module(x)
        after_forward = pending(stream)
        dx, dh0 = module.backward(y, hn)
        copy = dx.copy()
        copy.fill(0)
        # Everything is still to be done: nobody has waited for anything.
        assert before < after_forward < pending(stream)
        got = [a.numpy().tobytes() for a in (y, hn, dx, dh0, *(p.grad for p in module.parameters()))]
        assert pending(stream) == 0
        assert not copy.numpy().any()
    assert got == expected


@pytest.mark.usefixtures("late")
def test_float_and_numpy_wait() -> None:
    with fr.cuda.stream(A):
        scalar = fr.asarray(np.float64(2.5))
        assert pending(A) > 0
        assert float(scalar) == 2.5


def test_steady_state_needs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is given up is free again for what comes behind it."""
    module = gru()
    x = fr.asarray(X)
    results(module, x)
    monkeypatch.setenv("FUSEDRNN_SIMT_MEMORY", str(in_use() + 100_000))
    for stream in (0, A, 0, B):
        with fr.cuda.stream(stream):
            for _ in range(20):
                module.backward(module(x)[0])


# ------------------------------------------------------------------------------ between our own streams
@pytest.mark.usefixtures("schedule")
def test_readers_wait_for_the_writer() -> None:
    module = gru()
    expected = results(module, fr.asarray(X))
    with fr.cuda.stream(A):
        x = fr.asarray(X)
    with fr.cuda.stream(B):
        y, hn = module(x)
    with fr.cuda.stream(C):
        module.zero_grad()
        dx, dh0 = module.backward(y, hn)
        with fr.cuda.stream(A):
            got = [a.numpy().tobytes() for a in (y, hn, dx, dh0, *(p.grad for p in module.parameters()))]
    assert got == expected


@pytest.mark.usefixtures("schedule")
def test_writers_wait_for_readers() -> None:
    module = gru()
    expected = module(fr.asarray(X))[0].numpy()
    x = fr.asarray(X)
    with fr.cuda.stream(A):
        y = module(x)[0]
    with fr.cuda.stream(B):
        x.fill(0)
        assert not x.numpy().any()
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.usefixtures("late")
def test_readers_do_not_wait_for_each_other() -> None:
    """Two streams that use the same weights run side by side."""
    module = gru().eval()
    x = fr.asarray(X)
    module(x)
    in_use()
    with fr.cuda.stream(A):
        module(x)
        behind = pending(A)
        with fr.cuda.stream(B):
            module(x)[0].numpy()
        assert pending(A) == behind > 0


@pytest.mark.usefixtures("schedule")
def test_a_thread_has_a_stream_of_its_own() -> None:
    module = gru().eval()
    expected = module(fr.asarray(X))[0].numpy()
    seen: list[Any] = []
    with fr.cuda.stream(OF_THREAD):
        x = fr.asarray(X)

        def use() -> None:
            with fr.cuda.stream(OF_THREAD):
                seen.append(module(x)[0])

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        np.testing.assert_array_equal(seen[0].numpy(), expected)


@pytest.mark.usefixtures("schedule")
def test_threads() -> None:
    """Each on its stream, with arrays that all of them read and arrays that go from one to the next."""
    module = gru(num_layers=3, bidirectional=True).eval()  # calls long enough to meet
    x = fr.asarray(X)
    expected = module(x)[0].numpy()
    wrong: list[int] = []
    boxes: list[queue.Queue[Any]] = [queue.Queue() for _ in range(4)]

    def work(number: int) -> None:
        with fr.cuda.stream(A + number):
            for _ in range(20):
                boxes[number].put(module(x)[0])
                copy = boxes[number - 1].get().copy()
                if not np.array_equal(copy.numpy(), expected):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ------------------------------------------------------------------------------------------------- lifetimes
@pytest.mark.usefixtures("schedule")
def test_memory_is_freed_behind_its_last_use_on_every_stream() -> None:
    module = gru().eval()
    expected = module(fr.asarray(X))[0].numpy()
    before = in_use()
    with fr.cuda.stream(A):
        x = fr.asarray(X)
        with fr.cuda.stream(B):
            y = module(x)[0]
        del x  # while B has yet to read it
        gc.collect()
        streams.synchronize(A)
        other = fr.asarray(np.zeros_like(X))
        streams.synchronize(A)
    np.testing.assert_array_equal(y.numpy(), expected)
    del y, other
    assert in_use() == before


@pytest.mark.usefixtures("late")
def test_memory_of_others_is_held_until_its_last_kernel_has_run() -> None:
    module = gru().eval()
    mine = fr.asarray(X)
    producer = dlpack.Producer(mine)
    with fr.cuda.stream(A):
        y = module(fr.asarray(producer))[0]
        gc.collect()
        module(mine)
        assert producer.deleted == 0  # the module has let go of it, the stream has not
        y.numpy()
        module(mine)
        assert producer.deleted == 1


@pytest.mark.usefixtures("late")
def test_tapes_hold_what_backward_reads_on_another_stream() -> None:
    weights = {n: p.data for n, p in gru().named_parameters()}
    producer = dlpack.Producer(fr.asarray(X))
    with fr.cuda.stream(A):
        y, _, tape = fr.functional.gru_forward(fr.asarray(producer), None, weights)
        y.numpy()
    with fr.cuda.stream(B):
        fr.functional.gru_backward(tape, y)
        del tape
        gc.collect()
        assert producer.deleted == 0
    with fr.cuda.stream(A):
        y.numpy()
        assert producer.deleted == 0  # B still needs it
    with fr.cuda.stream(B):
        y.numpy()
        fr.asarray(X)
    assert producer.deleted == 1


@pytest.mark.usefixtures("late")
def test_packed_weights_are_freed_behind_their_last_use() -> None:
    weights = {n: p.data for n, p in gru().named_parameters()}
    x = fr.asarray(X)
    expected = fr.functional.gru_forward(x, None, weights)[0].numpy()
    with fr.cuda.stream(A):
        packed = fr.functional.pack_weights(weights)
        streams.synchronize(A)
    with fr.cuda.stream(B):
        y = fr.functional.gru_forward(x, None, packed)[0]
    with fr.cuda.stream(A):
        del packed
        streams.synchronize(A)
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.usefixtures("late")
def test_a_call_that_fails_holds_what_its_work_uses() -> None:
    """The state is copied for the tape before the plan is refused."""
    producer = dlpack.Producer(fr.asarray(np.zeros((1, 3, 6), np.float32)))
    module, x = gru(), fr.asarray(X)
    _native.force_plan("1x1x2")
    try:
        with fr.cuda.stream(A):
            with pytest.raises(RuntimeError, match="grid of CPU threads"):
                module(x, fr.asarray(producer))
            gc.collect()
            assert producer.deleted == 0
            x.numpy()
    finally:
        _native.force_plan("")
    assert producer.deleted == 1


# ------------------------------------------------------------------------------------------- other libraries
class OnStream(dlpack.Producer):
    """A producer whose array is made on a stream of its own: the stream that asks has to wait for that."""

    def __init__(self, array: fr.DeviceArray, own: int) -> None:
        super().__init__(array)
        self.own = own

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        if stream is not None and stream != -1:
            streams.wait(stream, self.own)
        return super().__dlpack__(stream=stream, **options)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("by", ["dlpack", "interface"])
def test_what_producers_do_on_their_streams_is_waited_for(by: str) -> None:
    zeros, made = fr.asarray(np.zeros_like(X)), fr.asarray(np.zeros_like(X))
    in_use()
    streams.add(C, address(zeros), address(made), 2, X.size)
    with fr.cuda.stream(A):
        foreign = fr.asarray(OnStream(made, C) if by == "dlpack" else dlpack.Interface(made, stream=C))
    with fr.cuda.stream(B):  # which nobody has told of C
        assert (foreign.copy().numpy() == 2).all()


@pytest.mark.usefixtures("late")
def test_the_stream_of_an_interface_is_not_waited_for_by_the_host() -> None:
    zeros, made = fr.asarray(np.zeros_like(X)), fr.asarray(np.zeros_like(X))
    in_use()
    streams.add(C, address(zeros), address(made), 2, X.size)
    foreign = fr.asarray(dlpack.Interface(made, stream=C))
    assert pending(C) > 0
    assert (foreign.numpy() == 2).all()


@pytest.mark.parametrize("stream", [None, LEGACY, OF_THREAD, C, A])
def test_consumers_wait(schedule: int, stream: int | None) -> None:
    out = fr.asarray(np.zeros_like(X))
    in_use()
    with fr.cuda.stream(A):
        x = fr.asarray(X)
        managed = dlpack.consume(x.__dlpack__(stream=stream))
    theirs = LEGACY if stream is None else stream
    streams.add(theirs, managed.tensor.data, address(out), 1, X.size)
    streams.synchronize(theirs)
    np.testing.assert_array_equal(out.numpy(), X + 1)
    dlpack.free(managed)


@pytest.mark.usefixtures("late")
def test_consumers_that_ask_for_nothing_get_nothing() -> None:
    """Else the test above would prove nothing."""
    out = fr.asarray(np.zeros_like(X))
    in_use()
    with fr.cuda.stream(A):
        x = fr.asarray(X)
        managed = dlpack.consume(x.__dlpack__(stream=-1))
    streams.add(C, managed.tensor.data, address(out), 1, X.size)
    streams.synchronize(C)
    assert np.isnan(out.numpy()).all()
    dlpack.free(managed)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("stream", [None, B])
def test_memory_is_not_freed_before_a_consumer_has_read_it(stream: int | None) -> None:
    """Its work is known where its stream is a default one, or ours."""
    out = fr.asarray(np.zeros_like(X))
    in_use()
    with fr.cuda.stream(A):
        x = fr.asarray(X)
    theirs = LEGACY if stream is None else stream
    with fr.cuda.stream(theirs):
        managed = dlpack.consume(x.__dlpack__(stream=stream))
        del x
        streams.add(theirs, managed.tensor.data, address(out), 1, X.size)
        dlpack.free(managed)
    with fr.cuda.stream(A):
        streams.synchronize(A)  # x is written: nothing but their read holds its memory now
        other = fr.asarray(np.zeros_like(X))
        streams.synchronize(A)
    streams.synchronize(theirs)
    np.testing.assert_array_equal(out.numpy(), X + 1)
    del other


@pytest.mark.usefixtures("late")
def test_the_interface_names_the_stream_to_wait_for() -> None:
    def named(array: fr.DeviceArray) -> Any:
        return array.__cuda_array_interface__["stream"]

    x = fr.asarray(X)
    assert named(x) == LEGACY
    x.numpy()
    assert named(x) is None
    with fr.cuda.stream(A):
        busy = fr.asarray(X)
        for _ in range(100):  # whoever asks how far the device is has it do a piece of its work
            busy.fill(0)
        x = fr.asarray(X)
        assert named(x) == A
        with fr.cuda.stream(OF_THREAD):
            assert named(fr.asarray(X)) == OF_THREAD
    # A may be gone by now: the legacy stream has to wait in its place.
    out = fr.asarray(np.zeros_like(X))
    assert named(x) == LEGACY
    assert pending(A) > 0
    streams.add(LEGACY, address(x), address(out), 1, X.size)
    np.testing.assert_array_equal(out.numpy(), X + 1)


# -------------------------------------------------------------------------------------------------- captures
@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("layers", [1, 2])
def test_calls_are_captured_and_replayed_with_new_inputs(layers: int) -> None:
    module = gru(num_layers=layers, bidirectional=True)
    inputs = [X, X[::-1].copy(), 2 * X]
    expected = [results(module, fr.asarray(x)) for x in inputs]
    before = in_use()
    x, graphs = fr.asarray(X), list[Graph]()
    with fr.cuda.stream(A):
        results(module, x)
        with captured(A, graphs):
            module.zero_grad()
            y, hn = module(x)
            dx, dh0 = module.backward(y, hn)
            scratch = dx.copy()
            scratch.fill(0)
            del scratch  # the graph writes to it all the same
        for new, bits in zip(inputs, expected, strict=True):
            x._assign(new)
            graphs[0].launch(A)
            kept = fr.asarray(np.full_like(X, 7))  # in the way of anything freed too early
            got = (y, hn, dx, dh0, *(p.grad for p in module.parameters()))
            assert [a.numpy().tobytes() for a in got] == bits
            assert (kept.numpy() == 7).all()
        graphs[0].launch(A)
        graphs[0].free()
    del got
    module.eval()
    assert in_use() > before
    del x, y, hn, dx, dh0, kept
    module.train()
    assert in_use() <= before


@pytest.mark.usefixtures("schedule")
def test_a_graph_holds_what_its_calls_used() -> None:
    module = gru().eval()
    expected = module(fr.asarray(X))[0].numpy()
    before = in_use()
    out, graphs = fr.asarray(np.zeros((5, 3, 6), np.float32)), list[Graph]()
    producer = dlpack.Producer(fr.asarray(X))
    with fr.cuda.stream(A):
        x = fr.asarray(producer)
        with captured(A, graphs):
            out._assign(module(x)[0])
        del x
        gc.collect()
        in_use()
        for _ in range(2):
            out.fill(0)
            graphs[0].launch(A)
            np.testing.assert_array_equal(out.numpy(), expected)
        assert producer.deleted == 0
        graphs[0].free()
        streams.synchronize(A)
        out.fill(0)
        out.numpy()
        out.fill(0)
    assert producer.deleted == 1
    del out, producer
    assert in_use() == before


@pytest.mark.usefixtures("schedule")
def test_graphs_go_by_the_weights_of_when_they_run() -> None:
    """And calls outside of them go by weights that a graph has written."""
    module, other = gru().eval(), fr.nn.GRU(4, 6, device="cuda", seed=1).eval()
    x, source = fr.asarray(X), other.weight_hh_l0.data.copy()
    module(x)
    graphs: list[Graph] = []
    with fr.cuda.stream(A):
        with captured(A, graphs):
            y = module(x)[0]
        with captured(A, graphs):
            module.weight_hh_l0.data = source
        module.weight_hh_l0.data = other.weight_hh_l0.data
        graphs[0].launch(A)
        changed = y.numpy()
        np.testing.assert_array_equal(changed, module(x)[0].numpy())
        for factor in (2, 3):
            source._assign(np.full((18, 6), factor, np.float32))
            graphs[1].launch(A)
            after = module(x)[0].numpy()
            assert not np.array_equal(after, changed)
            graphs[0].launch(A)
            np.testing.assert_array_equal(y.numpy(), after)
            changed = after
        for graph in graphs:
            graph.free()


@pytest.mark.usefixtures("schedule")
def test_training_steps_are_captured() -> None:
    """As many by a graph as by calls, with the same bits; learning rate and step are the device's own."""
    x, target = fr.asarray(X), fr.asarray(np.ones((5, 3, 6), np.float32))
    trained = []
    for by_graph in (False, True):
        module = gru()
        optimizer = fr.optim.Adam(module.parameters(), lr=0.01)

        def step(module: fr.nn.GRU = module, optimizer: fr.optim.Adam = optimizer) -> Any:
            optimizer.zero_grad()
            y, _ = module(x)
            loss, dy = fr.losses.mse(y, target)
            module.backward(dy)
            return loss, optimizer.step(clip_norm=1.0)

        with fr.cuda.stream(A):
            graphs: list[Graph] = []
            results = step()
            if by_graph:
                with captured(A, graphs):
                    results = step()
            for _ in range(3):
                if by_graph:
                    graphs[0].launch(A)
                else:
                    results = step()
            numbers = [float(number) for number in results]
            evaluated = module.eval()(x)[0].numpy()
            trained.append((numbers, evaluated, [p.numpy() for p in module.parameters()]))
            for graph in graphs:
                graph.free()
    for by_calls, by_graphs in zip(*trained, strict=True):
        for one, other in zip(by_calls, by_graphs, strict=True):
            np.testing.assert_array_equal(other, one)


@pytest.mark.usefixtures("schedule")
def test_what_cannot_be_captured_says_so_and_harms_nothing() -> None:
    module, x = gru().eval(), fr.asarray(X)
    lengths = fr.asarray(np.array([5, 2, 3]))
    expected = module(x)[0].numpy()
    resets, ids = fr.asarray(np.zeros((5, 3), np.bool_)), fr.asarray(np.zeros(3, np.int64))
    embedding, graphs = fr.nn.Embedding(4, 5, device="cuda", seed=0), list[Graph]()
    refused = {
        r"numpy\(\)": lambda: x.numpy(),
        "a copy of host memory": lambda: fr.asarray(X),
        "lengths": lambda: module(x, lengths=lengths),
        "resets": lambda: module(x, resets=resets),
        "ids": lambda: embedding(ids),
    }
    with fr.cuda.stream(A):
        with captured(A, graphs):
            for name, call in refused.items():
                words = (
                    "cannot be captured: the host would have to wait for stream 0xa000, .* before or after"
                )
                with pytest.raises(RuntimeError, match=f"{name} {words}"):
                    call()
            y = module(x)[0]
        graphs[0].launch(A)
        np.testing.assert_array_equal(y.numpy(), expected)
        graphs[0].free()


# ---------------------------------------------------------------------------------------------------- errors
def test_failures_are_told_by_who_waits(schedule: int) -> None:
    module = gru().eval()
    with fr.cuda.stream(A):
        streams.fault(A)
        y = module(fr.asarray(X))[0]
        if schedule == 0:
            assert pending(A) > 0
        with pytest.raises(RuntimeError, match=r"numpy\(\) \(simt\): a planted failure"):
            y.numpy()
        assert np.isfinite(gru()(fr.asarray(X))[0].numpy()).all()


def test_producers_are_given_back_after_a_failure() -> None:
    producer = dlpack.Producer(fr.asarray(X))
    with fr.cuda.stream(A):
        x = fr.asarray(producer)
        streams.fault(A)
        y = x.copy()
        del x
        with pytest.raises(RuntimeError, match="a planted failure"):
            y.numpy()
        y.fill(0)
        y.numpy()
    assert producer.deleted == 1


def test_empty_cache(late: None) -> None:
    """What was freed goes back to the device, that which waits for its stream or another one among it."""
    kept = fr.asarray(X, "cuda")
    gone = [fr.asarray(X, "cuda") for _ in range(3)]
    with fr.cuda.stream(A):
        functional.linear_forward(gone[0], fr.asarray(W, "cuda"))
    del gone
    fr.cuda.empty_cache()
    assert streams.pooled() == 0
    used = in_use()
    del kept
    gc.collect()
    streams.synchronize(LEGACY)
    assert streams.pooled() == X.nbytes
    fr.cuda.empty_cache()
    assert streams.pooled() == 0
    assert in_use() == used - X.nbytes


def test_empty_cache_in_a_capture() -> None:
    refused = pytest.raises(RuntimeError, match=r"empty_cache\(\) cannot be captured")
    with captured(A, []), fr.cuda.stream(A), refused:
        fr.cuda.empty_cache()


def test_a_forked_child_leaves_the_device_alone(late: None) -> None:
    """CUDA does not work there, and its locks may be held for ever: arrays go without a call."""
    x, w = fr.asarray(X, "cuda"), fr.asarray(W, "cuda")
    with fr.cuda.stream(A):
        y = functional.linear_forward(x, w)
    before = pending(A), pending(LEGACY)
    child = os.fork()
    if child == 0:
        told = ""
        try:
            functional.linear_forward(x, w)
        except RuntimeError as error:
            told = str(error)
        del x, w, y
        gc.collect()
        os._exit(0 if "forked" in told and (pending(A), pending(LEGACY)) == before else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(y.numpy(), 2 * X)

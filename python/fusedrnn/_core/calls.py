"""Training calls of modules: which of them backward means, and how long what they keep lives.

A call that a module makes in training mode keeps what its backward reads, its tape. It lives as long as one
of its results does, or a later call whose input came from it; a module's newest call lives in any case.
Backward takes the newest call that it has not taken yet. Where another one waits that the newest does not
come from, it cannot be known which of them is meant: that raises, unless the caller says which (`of=`, a
result of the call). What backward has taken stays for another backward until the module is called again,
but where a call that backward never took has gone with its results: the other backward may be meant for it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fusedrnn import _native


class Call:
    """One training call of a module.

    Attributes:
        version: of the weights it was made with.
        tape: what backward reads, None once it is gone.
        sources: the calls its inputs came from, and for a container those it is made of.
        follows: whether it is known to come from every call of its module that waited when it was made.
        unbatched: whether its arrays have no batch axis, which what the tape is of has.
    """

    __slots__ = ("__weakref__", "follows", "sources", "tape", "unbatched", "version")

    def __init__(self, version: int, tape: Any, sources: tuple[Call, ...]) -> None:
        self.version = version
        self.tape = tape
        self.sources = sources
        self.follows = False
        self.unbatched = False

    def comes_from(self, others: Iterable[Call]) -> bool:
        """Whether all of `others` are among the sources, or theirs."""
        wanted = {id(call) for call in others}
        seen: set[int] = set()
        stack = list(self.sources)
        while stack and wanted:
            call = stack.pop()
            if id(call) not in seen:
                seen.add(id(call))
                wanted.discard(id(call))
                stack += call.sources
        return not wanted

    def drop(self) -> None:
        """Frees what backward would read."""
        self.tape = None
        self.sources = ()


class _Result(weakref.ref):  # type: ignore[type-arg]
    """A reference to an array that calls returned, and those calls: they live as long as the array does."""

    __slots__ = ("calls", "key")
    calls: tuple[Call, ...]
    key: int


_results: dict[int, _Result] = {}  # by the id of an array that lives
_forget = _native.forgetting(_results)


def makers(array: Any) -> tuple[Call, ...]:
    """The calls that returned the array, a layer's and its containers', or the array it is a view of."""
    found = _results.get(id(array))
    if found is None:
        base = getattr(array, "base", None)
        found = None if base is None else _results.get(id(base))
    return () if found is None else found.calls


class Calls:
    """A module's training calls.

    Args:
        owner: name of the module's class, for messages.
    """

    __slots__ = ("_made", "_newest", "_owner", "_room", "_taken", "_waiting", "unfinished")

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.clear()

    def clear(self) -> None:
        """Backward finds none any more."""
        self._newest: Call | None = None
        self._waiting: list[weakref.ref[Call]] = []  # for backward, oldest first, the newest among them
        self._taken: list[weakref.ref[Call]] = []  # by backward since the newest was made, in that order
        self._made = 0  # calls since backward last took one that was made before them
        self._room = 16  # references before those of calls that are gone are swept out
        self.unfinished = False  # whether the last call was begun and did not come to its end

    @property
    def newest(self) -> Call | None:
        """The call made last, or where that failed the last before it that waits."""
        return self._newest if self._newest is not None else self._last_waiting()

    def _last_waiting(self) -> Call | None:
        while self._waiting:
            call = self._waiting[-1]()
            if call is not None:
                return call
            self._waiting.pop()
        return None

    def __iter__(self) -> Iterator[Call]:
        """Those that live, in no order that means anything."""
        for ref in (*self._waiting, *self._taken):
            call = ref()
            if call is not None:
                yield call

    def make_room(self) -> None:
        """To be called before a new call is made: frees the tapes that nothing waits for."""
        for ref in self._taken:
            call = ref()
            if call is not None:
                call.drop()
        if self._taken:
            self._made = 0
        self._taken = []
        self._newest = None
        self.unfinished = True

    def record(
        self,
        version: int,
        tape: Any,
        inputs: Iterable[Any],
        results: Iterable[Any],
        parts: tuple[Call, ...] = (),
    ) -> Call:
        """Keeps a call that has just been made, after `make_room`.

        Args:
            version: of the weights.
            tape: what backward will read.
            inputs: arrays it read, None where absent; results: arrays it returned.
            parts: the calls that a container's is made of.
        """
        sources = parts
        for array in inputs:
            if array is not None:
                sources += makers(array)
        call = Call(version, tape, sources)
        before = self._last_waiting()
        call.follows = before is None or (before.follows and call.comes_from([before]))
        if len(self._waiting) >= self._room:
            self._waiting = [ref for ref in self._waiting if ref() is not None]
            self._room = 2 * len(self._waiting) + 16
        for array in results:
            if array is None:
                continue
            known = _results.get(id(array))
            if known is None:
                made = _Result(array, _forget)
                made.key = id(array)
                made.calls = (call,)
                _results[made.key] = made
            else:
                known.calls += (call,)
        self._newest = call
        self._made += 1
        self._waiting.append(weakref.ref(call))
        self.unfinished = False
        return call

    def select(self, of: Any = None) -> Call | None:
        """The call that backward means, None where there is none.

        Args:
            of: a result of the call, or the call itself; None for the newest that backward has not taken.

        Raises:
            ValueError: `of` is no result of a call of this module whose tape lives.
            RuntimeError: `of` is None, and another call might be meant.
        """
        if isinstance(of, Call):
            return of if of.tape is not None else None
        if of is not None:
            return self._named(of)
        call = self._last_waiting()
        if call is not None:
            if not call.follows:
                self._require_linked(call)
            return call
        again = self._taken[-1]() if self._taken else None
        others = [other for other in self if other is not again]
        if again is not None and any(o.comes_from([again]) or again.comes_from([o]) for o in others):
            raise RuntimeError(
                f"{self._owner}.backward has taken every call of a loop, so it cannot be known which one is "
                "meant: say which by of=, a result of that call"
            )
        if again is not None and self._made > len(self._taken):
            raise RuntimeError(
                f"{self._owner}.backward has taken its newest call, and another has gone with its results, "
                "so it cannot be known which one is meant: keep the results of each, and say which by of=, a "
                "result of that call; calls that need no backward belong in eval mode"
            )
        return again

    def took(self, call: Call) -> None:
        """Backward of the call is done."""
        for refs in (self._waiting, self._taken):
            for i in range(len(refs) - 1, -1, -1):  # mostly the last
                if refs[i]() is call:
                    del refs[i]
                    break
        self._taken.append(weakref.ref(call))

    def _named(self, of: Any) -> Call:
        made = makers(of)
        for call in made:
            if any(own is call for own in self):
                return call
        raise ValueError(
            f"of must be a result of a training call of this {self._owner} whose tape lives, it is none: a "
            "tape goes with the call's results, with the next call after its backward, and with eval()"
        )

    def _require_linked(self, call: Call) -> None:
        others = [other for ref in self._waiting if (other := ref()) is not None and other is not call]
        if not call.comes_from(others):
            raise RuntimeError(
                f"{self._owner}.backward: {len(others) + 1} training calls wait for it, and the newest does "
                "not come from the others, so it cannot be known which one is meant: say which by of=, a "
                "result of that call; calls that need no backward belong in eval mode"
            )


class _Unshared(threading.local):
    """The array that a container hands to the next layer, and that no other code can write to."""

    array: Any = None


unshared = _Unshared()
_REUSED_BYTES = 128 << 10  # copies from here on are in memory that a step before has used


def kept(x: Any) -> Any:
    """The array, safe from later writes of the caller's: a copy, but of what only the container knows.

    A copy of a strided array has its axes in the same order in memory, and those that lie without a gap there
    lie without one here: kernels that go by blocks find the same ones, so bits stay the same.
    """
    if unshared.array is x:
        return x
    if not isinstance(x, np.ndarray):
        return x.copy()
    if x.flags.c_contiguous:
        if x.nbytes < _REUSED_BYTES:
            return x.copy()
        copy = np.ndarray(x.shape, x.dtype, _native.host_bytes(x.nbytes))
        copy[...] = x
        return copy
    if x.strides[-1] != x.itemsize or any(s <= 0 and n > 1 for s, n in zip(x.strides, x.shape, strict=True)):
        return x  # which kernels refuse
    strides = [0] * x.ndim
    extent = x.itemsize  # of the axes so far, the fastest first
    end = x.itemsize  # where they end in x, if none has a gap
    for axis in sorted(range(x.ndim), key=lambda a: (x.strides[a], -a)):
        if x.shape[axis] == 1:  # its stride may be anything
            strides[axis] = x.itemsize
            continue
        if x.strides[axis] != end:
            extent += x.itemsize
        strides[axis] = extent if axis != x.ndim - 1 else x.itemsize
        extent = strides[axis] * x.shape[axis]
        end = x.strides[axis] * x.shape[axis]
    copy = np.ndarray(x.shape, x.dtype, _native.host_bytes(max(extent, x.itemsize)), 0, tuple(strides))
    copy[...] = x
    return copy

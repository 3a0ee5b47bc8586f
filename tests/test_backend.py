"""The choice among backends in host memory: those built in, and plugins that were loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import stub_library

from fusedrnn import _native

# A plugin with a table of no operations, which can be chosen and not used.
PLUGIN = """
#include "backend/backend.hpp"
using namespace fusedrnn;
extern "C" const Backend* fusedrnn_plugin(uint32_t, char*, size_t) {
  static Backend table;
  table.abi = kBackendAbi;
  table.size = sizeof(Backend);
  table.name = "%s";
  table.memory = %s;
  return &table;
}
"""


def test_a_plugin_for_host_memory_can_be_chosen(tmp_path: Path) -> None:
    path = str(stub_library.build(tmp_path / "mine.so", PLUGIN % ("mine", "kHostMemory")))
    before, built = _native.backend(), _native.available_backends()
    with pytest.raises(ValueError, match=rf"name must be one of {', '.join(built)}.*, it is 'mine'"):
        _native.set_backend("mine")
    assert _native.load_backend(path) == "mine"
    assert _native.load_backend(path) == "mine"
    assert _native.available_backends() == built
    try:
        _native.set_backend("mine")
        assert _native.backend() == "mine"
    finally:
        _native.set_backend(before)
    other = str(stub_library.build(tmp_path / "other.so", PLUGIN % ("mine", "kHostMemory")))
    with pytest.raises(ValueError, match="path must be that of a backend with a new name, it is mine"):
        _native.load_backend(other)


def test_a_plugin_with_memory_of_its_own_is_refused(tmp_path: Path) -> None:
    path = str(stub_library.build(tmp_path / "theirs.so", PLUGIN % ("theirs", "kCudaMemory")))
    with pytest.raises(ValueError, match=r"path must be .* for host memory, theirs has memory of its own"):
        _native.load_backend(path)


def test_no_plugin(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the plugin cannot be opened .*: see whether that is its path"):
        _native.load_backend(str(tmp_path / "none.so"))

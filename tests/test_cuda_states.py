"""Whether CUDA can be used is told truly, whatever of it is missing, and with the next step.

What the driver may say of a machine is in native/test_machine.cpp; here are the plugin's states, and the
real plugin before drivers made for the purpose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import plugin_file
import pytest
import stub_library

import fusedrnn as fr
from fusedrnn import _native

PACKAGE = Path(fr.__file__).parent
PLUGIN = plugin_file.NAME

# Says what a user meets: the reason, the error of device="cuda", the warnings of "auto", and doctor's report.
PROGRAM = """
import contextlib, io, json, warnings
import fusedrnn as fr
from fusedrnn.cli import main
found = {"available": fr.cuda.is_available(), "why_not": fr.cuda.why_not()}
try:
    fr.nn.LSTM(2, 3, device="cuda")
except RuntimeError as error:
    found["error"] = str(error)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found["devices"] = [fr.nn.LSTM(2, 3, device="auto").device for _ in range(3)]
found["warnings"] = [str(w.message) for w in said]
with contextlib.redirect_stdout(io.StringIO()) as report:
    main(["doctor"])
print(json.dumps(found | {"report": report.getvalue()}))
"""


def ask(package: Path = PACKAGE, plugin: Path | None = None, **settings: str) -> str:
    """The reason that a process of its own gives, which all ways of asking must agree on.

    Args:
        package: the folder of the package.
        plugin: the file that doctor must name, if it is not the one in that folder.
        **settings: of the environment.
    """
    environment = {k: v for k, v in os.environ.items() if k != "FUSEDRNN_CUDA_PLUGIN"}
    environment |= {"PYTHONPATH": str(package.parent), **settings}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    reason = found["why_not"]
    assert reason
    assert "\n" not in reason
    assert found["available"] is False
    assert found["error"] == f'device="cuda" cannot be used: {reason}'
    assert found["devices"] == ["cpu"] * 3
    assert found["warnings"] == [f'device="auto" uses the CPU: {reason}']
    assert f"  usable           no: {reason}\n" in found["report"]
    named = settings.get("FUSEDRNN_CUDA_PLUGIN") or str(plugin or package / PLUGIN)
    assert (
        f"  plugin           {named if 'has no CUDA plugin' not in reason else 'none'}\n" in found["report"]
    )
    return str(reason)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """This package in a folder of its own, without a plugin."""
    folder = tmp_path / "fusedrnn"
    folder.mkdir()
    for part in PACKAGE.iterdir():
        if part.name not in (PLUGIN, "__pycache__"):
            (folder / part.name).symlink_to(part)
    compiled = Path(_native.__file__)
    if not (folder / compiled.name).exists():
        (folder / compiled.name).symlink_to(compiled)
    return folder


# ------------------------------------------------------------------------------------------- the plugin
def test_not_built(package: Path) -> None:
    reason = ask(package)
    assert reason.startswith(
        "this build has no CUDA plugin: install fusedrnn-cuda13, or build with FUSEDRNN_CUDA=ON"
    )


def test_package_of_its_own(package: Path) -> None:
    """fusedrnn-cuda13 installs a folder beside this one; what was built with the package comes first."""
    own = package.parent / "fusedrnn_cuda13" / PLUGIN
    own.parent.mkdir()
    stub_library.build(own, "int nothing;")
    remedy = "install fusedrnn-cuda13 of the version of this fusedrnn"
    assert ask(package, own) == f"{own} is no plugin of fusedrnn, it lacks its symbol: {remedy}"
    stub_library.build(package / PLUGIN, "int nothing;")
    assert ask(package).startswith(f"{package / PLUGIN} is no plugin of fusedrnn")


def test_damaged(package: Path) -> None:
    (package / PLUGIN).write_bytes(b"\x7fELF and nothing more")
    reason = ask(package)
    assert reason.startswith(f"the CUDA plugin cannot be opened ({package / PLUGIN}: ")
    assert reason.endswith("): install fusedrnn again")


def test_named_and_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere.so")
    reason = ask(FUSEDRNN_CUDA_PLUGIN=path)
    assert reason.startswith(f"the CUDA plugin cannot be opened ({path}: cannot open shared object file")
    assert reason.endswith("): see what FUSEDRNN_CUDA_PLUGIN names")


def test_no_plugin_of_ours(package: Path) -> None:
    stub_library.build(package / PLUGIN, "int nothing;")
    assert (
        ask(package)
        == f"{package / PLUGIN} is no plugin of fusedrnn, it lacks its symbol: install fusedrnn again"
    )


ENTRY = """
#include "backend/backend.hpp"
#include <cstdio>
using namespace fusedrnn;
extern "C" const Backend* fusedrnn_plugin(uint32_t abi, char* why, size_t bytes) { %s }
"""


def test_its_own_reason_is_told(package: Path) -> None:
    body = 'snprintf(why, bytes, "it is Sunday (version %%u asked)", abi); return nullptr;'
    stub_library.build(package / PLUGIN, ENTRY % body)
    assert ask(package).startswith("it is Sunday (version ")


@pytest.mark.parametrize("field", ["abi", "size"])
def test_table_of_another_version(package: Path, field: str) -> None:
    body = "static Backend table{}; table.abi = abi; table.size = sizeof table;"
    body += f" table.{field} += 8; return &table;"
    stub_library.build(package / PLUGIN, ENTRY % body)
    reason = ask(package)
    assert reason.startswith(
        f"{package / PLUGIN} was built for another version of fusedrnn: its table is of version"
    )
    assert reason.endswith(": install fusedrnn again")


# --------------------------------------------------------------------- the real plugin, drivers of our own
DRIVER = """
#include <cstring>
extern "C" {
int cuDriverGetVersion(int* version) { *version = VERSION; return 0; }
int cuInit(unsigned) { return RESULT; }
static int other() { return 2; }  // out of memory: whatever is asked for next fails
int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* found) {
  if (found != nullptr) *found = 0;
  *function = !strcmp(name, "cuDriverGetVersion") ? (void*)cuDriverGetVersion
              : !strcmp(name, "cuInit")           ? (void*)cuInit
              : strstr(name, "cuGetProcAddress")  ? (void*)cuGetProcAddress_v2
                                                  : (void*)other;
  return 0;
}
int cuGetProcAddress(const char* name, void** function, int v, unsigned long long f) {
  return cuGetProcAddress_v2(name, function, v, f, nullptr);
}
int cuGetExportTable(const void**, const void*) { return 500; }
}
"""
NO_DEVICE, NOT_INITIALIZED = 100, 802


@pytest.mark.skipif(plugin_file.installed() is None, reason="there is no CUDA plugin")
@pytest.mark.parametrize(
    ("version", "result", "visible", "message"),
    [
        (0, 0, None, "no NVIDIA driver is found: install one for CUDA "),
        (11040, 0, None, "the NVIDIA driver is too old: it supports CUDA up to 11.4, the plugin was "),
        (99000, NO_DEVICE, None, "the NVIDIA driver finds no GPU: see whether nvidia-smi -L lists one"),
        (99000, NO_DEVICE, "7", 'the NVIDIA driver finds no GPU among CUDA_VISIBLE_DEVICES="7": unset it'),
        (
            99000,
            NOT_INITIALIZED,
            None,
            "the NVIDIA driver does not answer: system not yet initialized: see whether",
        ),
    ],
)
def test_drivers(
    version: int,
    result: int,
    visible: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = DRIVER.replace("VERSION", str(version)).replace("RESULT", str(result))
    stub_library.build(tmp_path / "libcuda.so.1", source)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = {"LD_LIBRARY_PATH": str(tmp_path), **({"CUDA_VISIBLE_DEVICES": visible} if visible else {})}
    assert ask(plugin=plugin_file.installed(), **settings).startswith(message)

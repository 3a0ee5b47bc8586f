"""Kind 5: what makes a fault of memory, or of a disk, harder to miss or to abuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from command import here
from fault import Found, fault

from fusedrnn import _native

LIBRARY = _native.__file__


def readelf(*options: str) -> str:
    return subprocess.run(
        ["readelf", "-W", *options, LIBRARY], capture_output=True, text=True, check=True
    ).stdout


@fault("5", "the native library is bound when it is loaded", "BIND_NOW")
def _() -> Found:
    flags = [line.split()[-1] for line in readelf("-d").splitlines() if "FLAGS" in line]
    return Found(" ".join(flags) or "no flags", "NOW" in readelf("-d"))


def imports(name: str) -> Found:
    found = f" {name}@" in readelf("--dyn-syms")
    return Found(f"imports {name}" if found else "does not", found)


@fault("5", "functions check their stack", "imports __stack_chk_fail", release=True)
def _() -> Found:
    return imports("__stack_chk_fail")


@fault("5", "FORTIFY in `bindings/`", "imports __snprintf_chk", release=True)
def _() -> Found:
    return imports("__snprintf_chk")


@fault("5", "FUSEDRNN_CUDA_PLUGIN in a set-uid program", "read by secure_getenv")
def _() -> Found:
    return imports("secure_getenv")


@fault(
    "5",
    "500 flips of a bit in a checkpoint's weights",
    "none loaded unseen",
    needs=True,
    seconds=60,
    slow=True,
)
def _(run: Path) -> Found:
    from fusedrnn.cli.checkpoint import load

    path, rng, unseen = run / "checkpoint.safetensors", np.random.default_rng(0), 0
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for position in rng.integers(start, len(raw), 500):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            load(path)
            unseen += 1
        except Exception:
            continue
    path.write_bytes(raw)
    assert not here(["sample", str(run), "--length", "3"]).status
    return Found(f"{unseen} loaded unseen", not unseen)

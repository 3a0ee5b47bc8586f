"""Prints which models fusedrnn.io took in and out, and the largest difference of their outputs.

    KERAS_BACKEND=torch python tests/io_table.py

Each row is a model of io_models.py that went out to a format, ran there, and came back in; or a stored file
of another library. What is not installed is left out, and said.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from io_models import draw_input, masked, outputs, zoo
from io_oracles import ORACLES, unpacked

import fusedrnn as fr
from fusedrnn.io import safetensors_file

LINE = "| {:<28} | {:<22} | {:<12} | {:>12} | {:>12} |"


def run_torch(made: Any, x: Any) -> Any:
    import torch

    with torch.no_grad():
        y = made(torch.from_numpy(x))
    return (y[0] if isinstance(y, tuple) else y).numpy()


def run_onnx(made: Any, x: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(made.SerializeToString()).run(["y"], {"x": x})[0]


def run_keras(made: Any, x: Any) -> Any:
    return np.asarray(made.predict(x, verbose=0))


OUT: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], tuple[str, ...]]] = {
    "PyTorch": (fr.io.to_torch, run_torch, fr.io.from_torch, ("torch",)),
    "ONNX": (lambda m: fr.io.to_onnx(m, states=False), run_onnx, fr.io.from_onnx, ("onnx", "onnxruntime")),
    "Keras": (fr.io.to_keras, run_keras, fr.io.from_keras, ("keras",)),
}


def written() -> Iterator[tuple[str, str, str, float | str, float]]:
    """Our models, out and back."""
    for name, model in (zoo(True) | masked()).items():
        x = draw_input(model)
        y = outputs(model, x)
        for form, (write, run, read, packages) in OUT.items():
            if all(map(find_spec, packages)):
                try:
                    made = write(model)
                except fr.io.UnsupportedError:
                    yield name, "ours", form, "refused", np.nan
                    continue
                yield name, "ours", form, off(y, run(made, x)), off(y, outputs(read(made), x))
        with tempfile.TemporaryDirectory() as folder:
            fr.io.save(model, f"{folder}/m")
            yield name, "ours", "safetensors", "-", off(y, outputs(fr.io.load(f"{folder}/m"), x))


def stored() -> Iterator[tuple[str, str, str, str, float]]:
    """Files of other libraries."""
    readers = {
        "keras": ("model.keras", "Keras", fr.io.from_keras, "h5py"),
        "onnx": ("model.onnx", "torch.onnx.export", fr.io.from_onnx, "onnx"),
        "torch": ("state_dict.safetensors", "PyTorch", None, "safetensors"),
    }
    for form, (file, origin, read, package) in readers.items():
        if find_spec(package) is None:
            continue
        for case in json.loads((ORACLES / f"io_{form}.json").read_text())["cases"]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, file)
                path.write_bytes(unpacked(case[file]))
                if read is None:
                    options = {
                        n: v for n, v in case["options"].items() if n in ("batch_first", "nonlinearity")
                    }
                    model = fr.io.from_torch(safetensors_file.read(path)[0], **options)
                else:
                    model = read(path)
            x = np.array(case["x"])
            x = x.astype(np.float32) if x.dtype.kind == "f" else x
            yield (
                case["name"][:28],
                origin,
                form,
                "-",
                off(outputs(model, x), np.array(case["y"], np.float32)),
            )


def off(ours: Any, theirs: Any) -> float:
    """The largest difference beside the largest number."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def main() -> None:
    warnings.simplefilter("ignore")
    missing = sorted({p for _, _, _, ps in OUT.values() for p in ps if find_spec(p) is None})
    print(f"not installed, left out: {', '.join(missing) or 'nothing'}")
    print(
        "differences of y over its largest number: as the other library runs what we wrote; as read back in\n"
    )
    print(LINE.format("model", "written by", "format", "out", "in"))
    print(LINE.format("-" * 28, "-" * 22, "-" * 12, "-" * 11 + ":", "-" * 11 + ":"))
    worst = 0.0
    for name, origin, form, there, back in (*written(), *stored()):
        found = [d for d in (there, back) if isinstance(d, float) and d == d]
        worst = max([worst, *found])
        shown = [
            f"{d:.1e}" if isinstance(d, float) and d == d else "-" if d != d else d for d in (there, back)
        ]
        print(LINE.format(name, origin, form, *shown))
    print(f"\nlargest: {worst:.1e}")


if __name__ == "__main__":
    main()

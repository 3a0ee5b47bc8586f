"""Damages files of models on purpose, seeded, and reads them: only what fusedrnn.io says may be raised.

    python tests/io_fuzz.py FORMAT RUNS      (safetensors, keras, h5 or onnx)

Prints how many were read, refused as damaged and refused as unsupported. Ends with status 1 and the seed on
any other exception, and where memory grew by more than MOST_GROWTH over what reading the sound file takes.
"""

from __future__ import annotations

import copy
import faulthandler
import io
import json
import resource
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from io_oracles import ORACLES, unpacked

import fusedrnn as fr

MOST_MEMORY = 8 << 30  # bytes of address space: what asks for more raises MemoryError, which is a failure
MOST_GROWTH = 64 << 20  # bytes
NUMBERS = (0, 1, 127, 255, 1 << 15, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
WORDS = (
    -1,
    0,
    1,
    3,
    1 << 31,
    1 << 40,
    1 << 62,
    1e308,
    None,
    True,
    "",
    "tanh",
    "Popen",
    "__import__('os')",
    [],
    {},
)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, cut off, doubled, or replaced by a number."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(out))) if out else 0
        kind = rng.integers(6)
        if kind == 0:
            out[at : at + 1] = bytes([rng.integers(256)])
        elif kind == 1:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = out[at : at + int(rng.integers(1, 64))]
        elif kind == 4:
            del out[at : at + int(rng.integers(1, 64))]
        else:
            width = int(rng.choice([4, 8]))
            number = NUMBERS[rng.integers(len(NUMBERS))] & ((1 << 8 * width) - 1)
            out[at : at + width] = number.to_bytes(width, "little")
        if not out:
            break
    return bytes(out)


def rewritten(tree: Any, rng: np.random.Generator) -> Any:
    """A JSON tree with one value, somewhere, replaced, dropped or doubled."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                visit(node[key])

    visit(tree)
    for _ in range(rng.integers(1, 3)):
        node, key = places[rng.integers(len(places))]
        if key >= len(node) if isinstance(node, list) else key not in node:
            continue
        kind = rng.integers(4)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        else:
            other, name = places[rng.integers(len(places))]
            same = isinstance(other, dict) and name in other
            node[key] = copy.deepcopy(other[name] if kind == 2 and same else WORDS[rng.integers(len(WORDS))])
    return tree


def safetensors_file(rng: np.random.Generator, sound: bytes) -> bytes:
    if rng.integers(2):
        return damaged(sound, rng)
    size = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + size])
    if rng.integers(2):
        header["__metadata__"]["model"] = json.dumps(
            rewritten(json.loads(header["__metadata__"]["model"]), rng)
        )
    else:
        header = rewritten(header, rng)
    text = safe_json(header)
    return len(text).to_bytes(8, "little") + text + sound[8 + size :]


def keras_file(rng: np.random.Generator, sound: bytes) -> bytes:
    kind = rng.integers(3)
    if kind == 0:
        return damaged(sound, rng)
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if kind == 1:
        members["model.weights.h5"] = damaged(members["model.weights.h5"], rng)
    else:
        members["config.json"] = safe_json(rewritten(json.loads(members["config.json"]), rng))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def onnx_file(rng: np.random.Generator, sound: bytes) -> bytes:
    if rng.integers(3) == 0:
        return damaged(sound, rng)
    import onnx

    model = onnx.load_from_string(sound)
    graph = model.graph
    node = graph.node[rng.integers(len(graph.node))]
    tensor = graph.initializer[rng.integers(len(graph.initializer))]
    names = [n for item in graph.node for n in (*item.input, *item.output)] + ["", "no such value"]
    kind = rng.integers(8)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.integers(len(tensor.dims))] = int(rng.choice([-1, 0, 1, 2, 1 << 31, 1 << 62]))
    elif kind == 1:
        tensor.data_type = int(rng.integers(0, 30))
    elif kind == 2 and node.input:
        node.input[rng.integers(len(node.input))] = names[rng.integers(len(names))]
    elif kind == 3 and node.output:
        node.output[rng.integers(len(node.output))] = names[rng.integers(len(names))]
    elif kind == 4 and node.attribute:
        attribute = node.attribute[rng.integers(len(node.attribute))]
        attribute.i = int(rng.choice([-3, 0, 1, 2, 1 << 40]))
        attribute.type = int(rng.integers(0, 12))
    elif kind == 5:
        del graph.node[rng.integers(len(graph.node))]
    elif kind == 6:
        node.op_type = graph.node[rng.integers(len(graph.node))].op_type
    else:
        del tensor.dims[:]
    return bytes(model.SerializeToString())


def safe_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def sound_files(form: str) -> list[bytes]:
    """Files as they should be."""
    key = {"keras": "model.keras", "h5": "model.weights.h5", "onnx": "model.onnx"}.get(form)
    from io_models import taken, zoo

    if key is not None:
        name = "io_onnx.json" if form == "onnx" else "io_keras.json"
        cases = json.loads((ORACLES / name).read_text())["cases"]
        ours = [zoo()[name] for name in taken("onnx")] if form == "onnx" else ()
        made = [bytes(fr.io.to_onnx(model, lengths=True).SerializeToString()) for model in ours]
        return [unpacked(case[key]) for case in cases] + made
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for model in zoo().values():
            fr.io.save(model, f"{folder}/m")
            found.append(Path(folder, "m").read_bytes())
    return found


def main() -> int:
    form, runs = sys.argv[1], int(sys.argv[2])
    faulthandler.enable()
    warnings.simplefilter("ignore")
    sound = sound_files(form)
    damage: Callable[[np.random.Generator, bytes], bytes] = {
        "safetensors": safetensors_file,
        "keras": keras_file,
        "h5": lambda rng, data: damaged(data, rng),
        "onnx": onnx_file,
    }[form]
    configs = [stored_config(i) for i in range(len(sound))] if form == "h5" else []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        suffix = ".weights.h5" if form == "h5" else f".{form}"
        path = Path(folder, f"m{suffix}")

        def read(i: int) -> Any:
            if form == "h5":
                return fr.io.from_keras(configs[i % len(sound)], path)
            return {"safetensors": fr.io.load, "keras": fr.io.from_keras, "onnx": fr.io.from_onnx}[form](path)

        for i, data in enumerate(sound):
            path.write_bytes(data)
            read(i)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        for seed in range(runs):
            path.write_bytes(damage(np.random.default_rng(seed), sound[seed % len(sound)]))
            try:
                read(seed)
                counts["read"] += 1
            except (fr.io.FormatError, fr.io.UnsupportedError) as error:
                counts[type(error).__name__] += 1
            except BaseException:
                traceback.print_exc()
                print(f"seed {seed}", file=sys.stderr)
                return 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    print(json.dumps(counts | {"grown": grown}))
    return 1 if grown > MOST_GROWTH else 0


def stored_config(i: int) -> Any:
    case = json.loads((ORACLES / "io_keras.json").read_text())["cases"][i]
    with zipfile.ZipFile(io.BytesIO(unpacked(case["model.keras"]))) as archive:
        return json.loads(archive.read("config.json"))


if __name__ == "__main__":
    sys.exit(main())

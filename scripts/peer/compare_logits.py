"""Logits of llama.cpp, of gptoss and of the f64 oracle on the same synthetic models, as Markdown tables.

`scripts/peer/compare-logits` prepares what this needs and calls it. Each model is one checkpoint; the GGUF files made of it
hold the same numbers in several types, so that what a type makes of activations can be told from what the weights say:

* F32 dense matrices and F32 experts: llama.cpp rounds no activation, and what is left is f32 and the rotary embedding;
* MXFP4 experts, or BF16 or Q8_0 dense matrices: llama.cpp rounds the activations they meet, to int8 or BF16. How far that
  takes it from its own F32 run is its quantisation noise;
* Q8_0 also rounds the weights: `Q8_0 as F32` holds what its blocks mean, and is what it is held against.

NMSE is Σ(a − b)² / Σb² over the logits of a span of positions.
"""

import argparse
import json
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from commands import run

WRITER = pathlib.Path(__file__).with_name("gguf_bench.py")
VARIANTS = ("reference", "ggml-compat")


class Model(NamedTuple):
    """A recipe, and how long its prompt is."""

    recipe: dict
    positions: int
    spans: tuple


class File(NamedTuple):
    """A GGUF file: how it is called, how it is written, and whose numbers it has."""

    name: str
    options: tuple
    same_numbers_as: str


MODELS = [
    Model(
        {"name": "peer", "layers": 4, "experts": 8, "hidden": 256, "intermediate": 256, "heads": 8, "kv_heads": 2}
        | {"vocab": 2048},
        1200,
        ((0, 64), (1000, 1200)),
    ),
    Model(
        {"name": "20b-widths", "layers": 2, "experts": 8, "hidden": 2880, "intermediate": 2880, "heads": 64, "kv_heads": 8}
        | {"vocab": 2048},
        64,
        ((0, 64),),
    ),
]
F32 = "F32, experts F32"
FILES = [
    File(F32, ("--dense", "F32", "--experts", "F32"), F32),
    File("F32, experts MXFP4", ("--dense", "F32", "--experts", "MXFP4"), F32),
    File("BF16, experts MXFP4", ("--dense", "BF16", "--experts", "MXFP4"), F32),
    File("Q8_0 as F32, experts F32", ("--dense", "F32", "--round-dense", "--experts", "F32"), "Q8_0 as F32, experts F32"),
    File("Q8_0, experts MXFP4", ("--dense", "Q8_0", "--experts", "MXFP4"), "Q8_0 as F32, experts F32"),
]  # fmt: skip


def read(path):
    """The tensor `logits` of a SafeTensors file, as f64."""
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    tensor = json.loads(data[8:header])["logits"]
    kind = {"F32": np.float32, "F64": np.float64}[tensor["dtype"]]
    return np.frombuffer(data[header:], dtype=kind).reshape(tensor["shape"]).astype(np.float64)


class Bench:
    """One model, and who ran it."""

    def __init__(self, model, folder, programs, libraries):
        self.model, self.folder, self.programs, self.libraries = model, folder, programs, libraries
        folder.mkdir(parents=True, exist_ok=True)
        self.ids = [(7919 * i + 13) % model.recipe["vocab"] for i in range(model.positions)]
        (folder / "ids.json").write_text(json.dumps(self.ids))
        (folder / "recipe.json").write_text(json.dumps(model.recipe))
        if not (folder / "model").exists():
            run([programs / "gptoss-verify", "fixture", folder / "recipe.json", "--out", folder / "model"])

    def logits(self, program, command, variant):
        """Ours, or the oracle's."""
        out = self.folder / f"{command}.{variant}.safetensors"
        asked = ["--tokens-file", self.folder / "ids.json", "--positions", "all", "--out", out]
        run([self.programs / program, command, "--model", self.folder / "model", "--rope", variant, *asked])
        return read(out)

    def llama(self, file, setting):
        """llama.cpp's, of one file."""
        gguf, out = self.folder / "model.gguf", self.folder / "llama.f32"
        run([sys.executable, WRITER, self.folder / "model", gguf, *file.options])
        ids = " ".join(map(str, self.ids))
        run([self.folder.parent / "llama_logits", self.libraries, gguf, out, setting], input=ids)
        gguf.unlink()
        return np.fromfile(out, dtype=np.float32).reshape(len(self.ids), -1).astype(np.float64)

    def report(self):
        """Everything, as tables."""
        oracle = {variant: self.logits("gptoss-verify", "oracle", variant) for variant in VARIANTS}
        ours = {variant: self.logits("gptoss", "logits", variant) for variant in VARIANTS}
        theirs = {file.name: self.llama(file, "f32") for file in FILES}
        theirs[f"{F32}, f16 cache"] = self.llama(FILES[0], "usual")
        usual = {**{file.name: file.same_numbers_as for file in FILES}, f"{F32}, f16 cache": F32}
        for first, end in self.model.spans:
            print(f"\n{self.model.recipe['name']}, positions {first} to {end - 1}\n")
            print("| logits of | from the oracle | from the oracle, ggml-compat | from llama.cpp's F32 run of the same numbers |")
            print("|---|---|---|---|", flush=True)
            rows = [("oracle, ggml-compat", oracle["ggml-compat"], None)]
            rows += [(f"gptoss --rope {variant}", ours[variant], None) for variant in VARIANTS]
            rows += [(f"llama.cpp: {name}", found, theirs[usual[name]]) for name, found in theirs.items()]
            for name, found, own in rows:
                others = [oracle["reference"], oracle["ggml-compat"], own]
                is_shown = [other is not None and other is not found for other in others]
                spans = [distance(found[first:end], other[first:end]) if shown else "" for other, shown in zip(others, is_shown)]
                print(f"| {name} | {' | '.join(spans)} |", flush=True)


def distance(a, b):
    """NMSE, the median of single positions, largest difference, top-1 agreement."""
    assert a.shape == b.shape and np.isfinite(a).all(), (a.shape, b.shape)
    error = (a - b) ** 2
    nmse, median = error.sum() / (b**2).sum(), np.median(error.sum(1) / (b**2).sum(1))
    top = 100 * (a.argmax(1) == b.argmax(1)).mean()
    return f"{nmse:.1e} (median {median:.1e}), max {np.sqrt(error.max()):.1e}, top-1 {top:.1f} %"


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where models and logits go; llama_logits is there")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of gptoss and gptoss-verify")
    parser.add_argument("--libraries", type=pathlib.Path, required=True, help="folder of libggml-cpu-*.so")
    parser.add_argument("--only", help="name of the one model to run")
    arguments = parser.parse_args()
    for model in MODELS:
        if arguments.only in (None, model.recipe["name"]):
            folder = arguments.directory / model.recipe["name"]
            Bench(model, folder, arguments.programs.resolve(), arguments.libraries).report()


if __name__ == "__main__":
    main()

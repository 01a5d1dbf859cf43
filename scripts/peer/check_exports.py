"""GGUF files that `gptoss export` writes, as others read them: PyPI's `gguf`, and llama.cpp.

`scripts/peer/compare-logits` prepares what this needs and calls it. Each file is held against one that PyPI's `gguf` wrote of
the same checkpoint in the same types (`gguf_bench.py`):

* `gguf` reads it, and finds the same tensors, types, shapes and bytes, and the same metadata of the architecture;
* llama.cpp loads it, and gives the same logits bit for bit.
"""

import argparse
import json
import pathlib
import sys

import gguf
import numpy as np
from commands import run

WRITER = pathlib.Path(__file__).with_name("gguf_bench.py")
T3 = {"name": "T3", "layers": 4, "experts": 8, "hidden": 64, "intermediate": 64, "heads": 8, "kv_heads": 2, "vocab": 200014}
WIDE = {"name": "20b-widths", "layers": 2, "experts": 8, "hidden": 2880, "intermediate": 2880, "heads": 64, "kv_heads": 8}
# Each with how many tokens are run.
RECIPES = [(T3, 20), ({**WIDE, "vocab": 2048}, 24)]
DENSE = {"bf16": "BF16", "f16": "F16", "q8_0": "Q8_0"}
# Of the vocabulary and of who wrote it, files may differ.
OWN_KEYS = ("GGUF.", "general.", "tokenizer.")


def contents(path):
    """Metadata of the architecture, and tensors: name -> type, shape, bytes."""
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith(OWN_KEYS)}
    tensors = {t.name: (t.tensor_type, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}
    return reader.fields["general.architecture"].contents(), fields, tensors


def compare(ours, theirs):
    """What differs between two files, as a list of texts."""
    (architecture, fields, tensors), (want_architecture, want_fields, want_tensors) = contents(ours), contents(theirs)
    wrong = [] if architecture == want_architecture else [f"architecture {architecture}"]
    for key, value in want_fields.items():
        # The stand-in says how large its vocabulary is; a converter's file does not.
        if key != f"{architecture}.vocab_size" and fields.get(key) != value:
            wrong.append(f"{key}: expected {value}, found {fields.get(key)}")
    if set(tensors) != set(want_tensors):
        wrong.append(f"tensors: {set(tensors) ^ set(want_tensors)}")
    wrong += [f"{name}: type, shape or bytes" for name in want_tensors if tensors.get(name) != want_tensors[name]]
    return len(want_tensors), wrong


def llama(folder, libraries, file, ids):
    """llama.cpp's logits."""
    out = folder / "llama.f32"
    run([folder / "llama_logits", libraries, file, out, "f32"], input=" ".join(map(str, ids)))
    return np.fromfile(out, dtype=np.uint32)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="where files go; llama_logits is there")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of gptoss and gptoss-verify")
    parser.add_argument("--libraries", type=pathlib.Path, required=True, help="folder of libggml-cpu-*.so")
    arguments = parser.parse_args()
    folder, programs, failed = arguments.directory, arguments.programs.resolve(), False
    for recipe, positions in RECIPES:
        model = folder / f"{recipe['name']}.original"
        if not model.exists():
            (folder / "recipe.json").write_text(json.dumps(recipe))
            run([programs / "gptoss-verify", "fixture", folder / "recipe.json", "--out", model])
        ids = [(7919 * i + 13) % recipe["vocab"] for i in range(positions)]
        for ours_type, theirs_type in DENSE.items():
            ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
            run([programs / "gptoss", "export", "--format", "gguf", "--dense", ours_type, "--from", model, "--to", ours])
            run([sys.executable, WRITER, model, theirs, "--dense", theirs_type])
            count, wrong = compare(ours, theirs)
            found, want = (llama(folder, arguments.libraries, file, ids) for file in (ours, theirs))
            if len(want) == 0 or not np.array_equal(found, want):
                wrong.append("llama.cpp's logits")
            says = "; ".join(wrong) or f"{count} tensors and {len(want)} logits equal bit for bit"
            print(f"{recipe['name']}, {theirs_type}, {ours.stat().st_size} bytes: {says}", flush=True)
            failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()

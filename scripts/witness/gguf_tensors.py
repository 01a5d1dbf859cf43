"""Tensors of the synthetic checkpoints as PyPI's `gguf` stores them -> goldens/bytes/gguf-tensors.json.

The values come from the integer recipe in numpy (`recipe.py`), never from our exporter. MXFP4 blocks are repacked as
llama.cpp's converter does it (`transform_nibble_layout`), Q8_0 and F16 are the package's own quantisation; the whole is
written with `GGUFWriter` and read back with `GGUFReader`, and what the reader sees is recorded: name, dimensions, type
and SHA-256 of the data.

    python3 scripts/witness/gguf_tensors.py        (needs gguf, see scripts/peer/requirements.txt)
"""

import hashlib
import pathlib
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from golden_io import write_golden
from recipe import load_recipe, self_check, tensor_bytes, tensor_specs

RECIPES = ("T1", "T3", "odd-experts")
DENSE = {"bf16": Type.BF16, "f16": Type.F16, "q8_0": Type.Q8_0}
BLOCK = 32

GLOBAL = {
    "embedding.weight": "token_embd.weight",
    "unembedding.weight": "output.weight",
    "norm.scale": "output_norm.weight",
}
LAYER = {
    "attn.norm.scale": "attn_norm.weight",
    "attn.sinks": "attn_sinks.weight",
    "attn.out.weight": "attn_output.weight",
    "attn.out.bias": "attn_output.bias",
    "mlp.norm.scale": "post_attention_norm.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.bias": "ffn_gate_inp.bias",
}
QUANTISED = ("token_embd.weight", "output.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight")


def widen(bits):
    """f32 of BF16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def transform_nibble_layout(blocks):
    """Bytes [..., 16] with values 2j, 2j + 1 in byte j -> with values j, j + 16 in byte j."""
    nibbles = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:-1], BLOCK)
    return nibbles[..., : BLOCK // 2] | nibbles[..., BLOCK // 2 :] << 4


def mxfp4(blocks, scales):
    """[experts, rows, blocks, 16] and [experts, rows, blocks] -> [experts, rows, blocks x 17]."""
    joined = np.concatenate((scales[..., None], transform_nibble_layout(blocks)), axis=-1)
    return joined.reshape(*joined.shape[:2], -1)


def arrays(recipe):
    """Original name -> array; BF16 as its bits."""
    found = {}
    for spec in tensor_specs(recipe):
        kind = np.dtype("<u2") if spec.dtype == "BF16" else np.uint8
        found[spec.name] = np.frombuffer(tensor_bytes(recipe, spec), dtype=kind).reshape(spec.shape)
    return found


def stored(recipe):
    """(GGUF name, BF16 bits or packed MXFP4) of every tensor."""
    tensors = arrays(recipe)
    q_end = recipe["heads"] * recipe["head_dim"]
    k_end = q_end + recipe["kv_heads"] * recipe["head_dim"]
    for name, bits in tensors.items():
        if name in GLOBAL:
            yield GLOBAL[name], bits
            continue
        _, layer, rest = name.split(".", 2)
        prefix = f"blk.{layer}."
        if rest in LAYER:
            yield prefix + LAYER[rest], bits
        elif rest.startswith("attn.qkv."):
            kind = rest.removeprefix("attn.qkv.")
            for part, rows in (("q", bits[:q_end]), ("k", bits[q_end:k_end]), ("v", bits[k_end:])):
                yield f"{prefix}attn_{part}.{kind}", rows
        elif rest.endswith("_bias"):
            halves = {"mlp.mlp1_bias": (("gate", 0, 2), ("up", 1, 2)), "mlp.mlp2_bias": (("down", 0, 1),)}[rest]
            for part, first, step in halves:
                yield f"{prefix}ffn_{part}_exps.bias", bits[:, first::step]
        elif rest.endswith(".blocks"):
            blocks, scales = bits, tensors[name.removesuffix("blocks") + "scales"]
            halves = (("gate", 0, 2), ("up", 1, 2)) if ".mlp1_" in name else (("down", 0, 1),)
            for part, first, step in halves:
                yield f"{prefix}ffn_{part}_exps.weight", mxfp4(blocks[:, first::step], scales[:, first::step])


def add(writer, name, data, dense):
    """One tensor in the type that it has in such a file."""
    if data.dtype == np.uint8:
        writer.add_tensor(name, data, raw_dtype=Type.MXFP4)
        return
    values = widen(np.ascontiguousarray(data))
    if not name.endswith(QUANTISED):
        writer.add_tensor(name, values)
        return
    assert dense != Type.Q8_0 or values.shape[-1] % BLOCK == 0, name
    writer.add_tensor(name, gguf.quantize(values, dense), raw_dtype=dense)


def entries(recipe, dense):
    """Name -> dims, type and digest, as the package reads the file that it wrote."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.gguf"
        writer = gguf.GGUFWriter(path, "gpt-oss")
        for name, data in stored(recipe):
            add(writer, name, data, dense)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        reader = gguf.GGUFReader(path)
        return {
            tensor.name: {
                "dims": [int(dim) for dim in tensor.shape],
                "type": tensor.tensor_type.name,
                "sha256": hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest(),
            }
            for tensor in reader.tensors
        }


def main():
    """Make the golden."""
    self_check()
    payload = {name: {dense: entries(load_recipe(name), kind) for dense, kind in DENSE.items()} for name in RECIPES}
    # A type differs between the three only where it is asked for: the rest is stored once.
    for recipe in payload.values():
        for dense in ("f16", "q8_0"):
            recipe[dense] = {name: entry for name, entry in recipe[dense].items() if entry != recipe["bf16"][name]}
    write_golden(
        "bytes/gguf-tensors",
        payload,
        producer="gguf_tensors.py",
        source="numpy implementation of the integer recipe; packed, quantised, written and read back by PyPI gguf.",
        packages=["gguf", "numpy"],
    )


if __name__ == "__main__":
    main()

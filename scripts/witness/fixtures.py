"""Digests of the synthetic checkpoints -> goldens/bytes/fixtures.json and goldens/bytes/fixtures-full.json.

The small recipes are also serialised by the PyPI `safetensors` package, for the digest of the whole file.
`python3 scripts/witness/fixtures.py small` takes seconds, `full` generates 14 GB of values and takes minutes.
"""

import hashlib
import json
import struct
import sys

import safetensors

from golden_io import sha256_hex, write_golden
from recipe import config_text, load_recipe, self_check, tensor_bytes, tensor_chunks, tensor_specs

SMALL = ("T1", "T2", "T3", "small-vocab", "odd-experts", "one-layer", "wide-heads")
FULL_120B_TENSORS = (
    "embedding.weight",
    "norm.scale",
    "block.0.attn.qkv.weight",
    "block.35.mlp.mlp1_weight.scales",
    "block.35.mlp.gate.weight",
    "block.17.mlp.mlp2_bias",
)
RECIPE_SOURCE = "numpy implementation of the integer recipe, checked against upstream digests; "
SAFETENSORS_DTYPE = {"BF16": "bfloat16", "U8": "uint8"}

HF_GLOBAL = {
    "embedding.weight": "model.embed_tokens.weight",
    "unembedding.weight": "lm_head.weight",
    "norm.scale": "model.norm.weight",
}
HF_LAYER = {
    "attn.norm.scale": "input_layernorm.weight",
    "attn.sinks": "self_attn.sinks",
    "attn.out.weight": "self_attn.o_proj.weight",
    "attn.out.bias": "self_attn.o_proj.bias",
    "mlp.norm.scale": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.router.weight",
    "mlp.gate.bias": "mlp.router.bias",
    "mlp.mlp1_weight.blocks": "mlp.experts.gate_up_proj_blocks",
    "mlp.mlp1_weight.scales": "mlp.experts.gate_up_proj_scales",
    "mlp.mlp1_bias": "mlp.experts.gate_up_proj_bias",
    "mlp.mlp2_weight.blocks": "mlp.experts.down_proj_blocks",
    "mlp.mlp2_weight.scales": "mlp.experts.down_proj_scales",
    "mlp.mlp2_bias": "mlp.experts.down_proj_bias",
}


def serialize(recipe, overrides=None):
    """model.safetensors as the PyPI package writes it, without metadata; `safetensors.serialize` is what its save
    functions call. `overrides` maps a tensor name to other bytes."""
    overrides = overrides or {}
    tensors = {
        spec.name: {
            "dtype": SAFETENSORS_DTYPE[spec.dtype],
            "shape": spec.shape,
            "data": overrides.get(spec.name) or tensor_bytes(recipe, spec),
        }
        for spec in tensor_specs(recipe)
    }
    return safetensors.serialize(tensors, None)


def expected_header(specs):
    """The SafeTensors header for `specs` in their order: u64 length, compact JSON, spaces to a multiple of 8."""
    entries, offset = {}, 0
    for spec in specs:
        end = offset + spec.byte_size
        entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def tensor_entry(recipe, spec, also=None):
    """dtype, shape and digest of one tensor; `also` is a running digest that the bytes are fed to as well."""
    digest = hashlib.sha256()
    for chunk in tensor_chunks(recipe, spec):
        digest.update(chunk)
        if also is not None:
            also.update(chunk)
    return {"dtype": spec.dtype, "shape": list(spec.shape), "sha256": digest.hexdigest()}


def hf_slices(recipe, spec):
    """(HF name, first byte, end byte) of the HF tensors that hold `spec` (specification section 3)."""
    if spec.name in HF_GLOBAL:
        return [(HF_GLOBAL[spec.name], 0, spec.byte_size)]
    _, n, rest = spec.name.split(".", 2)
    prefix = f"model.layers.{n}."
    if not rest.startswith("attn.qkv."):
        return [(prefix + HF_LAYER[rest], 0, spec.byte_size)]
    row_bytes = spec.byte_size // spec.shape[0]
    q_end = recipe["heads"] * recipe["head_dim"]
    k_end = q_end + recipe["kv_heads"] * recipe["head_dim"]
    kind = rest.removeprefix("attn.qkv.")
    rows = (("q", 0, q_end), ("k", q_end, k_end), ("v", k_end, spec.shape[0]))
    return [(f"{prefix}self_attn.{p}_proj.{kind}", a * row_bytes, b * row_bytes) for p, a, b in rows]


def hf_digests(recipe):
    """Digest of every tensor in the HF layout."""
    digests = {}
    for spec in tensor_specs(recipe):
        data = tensor_bytes(recipe, spec)
        for name, start, end in hf_slices(recipe, spec):
            digests[name] = sha256_hex(data[start:end])
    return digests


def small_entry(name):
    """All digests of a small recipe; the package's file must have the header and the order that we expect."""
    recipe = load_recipe(name)
    specs = tensor_specs(recipe)
    file_bytes = serialize(recipe)
    header = expected_header(specs)
    assert file_bytes.startswith(header), f"{name}: the package wrote another header"
    assert len(file_bytes) == len(header) + sum(spec.byte_size for spec in specs)
    return {
        "config": config_text(recipe),
        "hf": hf_digests(recipe),
        "original": {"file_bytes": len(file_bytes), "file_sha256": sha256_hex(file_bytes)},
        "tensors": {spec.name: tensor_entry(recipe, spec) for spec in specs},
    }


def full_20b_entry():
    """Digest of every tensor of full-20b and of the single-file checkpoint, from one pass in file order."""
    recipe = load_recipe("full-20b")
    specs = tensor_specs(recipe)
    header = expected_header(specs)
    file_digest = hashlib.sha256(header)
    tensors = {spec.name: tensor_entry(recipe, spec, also=file_digest) for spec in specs}
    file_bytes = len(header) + sum(spec.byte_size for spec in specs)
    assert file_bytes == 13_761_300_984, file_bytes
    return {
        "config": config_text(recipe),
        "original": {"file_bytes": file_bytes, "file_sha256": file_digest.hexdigest()},
        "tensors": tensors,
    }


def full_120b_entry():
    """Digests of a few tensors of full-120b."""
    recipe = load_recipe("full-120b")
    specs = {spec.name: spec for spec in tensor_specs(recipe)}
    tensors = {name: tensor_entry(recipe, specs[name]) for name in FULL_120B_TENSORS}
    return {"config": config_text(recipe), "tensors": tensors}


def main(which):
    """Write the golden of the small or of the full recipes."""
    self_check()
    if which == "small":
        payload = {name: small_entry(name) for name in SMALL}
        source = RECIPE_SOURCE + "whole files serialised by PyPI safetensors."
        write_golden("bytes/fixtures", payload, producer="fixtures.py", source=source,
                     packages=("numpy", "safetensors"), arguments="small")
    elif which == "full":
        payload = {"full-20b": full_20b_entry(), "full-120b": full_120b_entry()}
        source = RECIPE_SOURCE + (
            "the file digest uses a header rule proven equal to PyPI safetensors on the small recipes."
        )
        write_golden("bytes/fixtures-full", payload, producer="fixtures.py", source=source,
                     packages=("numpy", "safetensors"), arguments="full")
    else:
        sys.exit("usage: fixtures.py small|full")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")

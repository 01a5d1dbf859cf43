"""The integer recipe of the synthetic checkpoints, in numpy.

From a recipe (`fixtures/<name>.json`) to the tensor list of the original checkpoint and to the bytes of every tensor,
streamed in chunks so that a tensor of any size needs little memory. Independent of the Rust code: written from the
specification (sections 2, 4.2 and 10), and checked here against values that the upstream programs gave.

`python3 scripts/witness/recipe.py` runs the checks alone.
"""

import hashlib
import itertools
import json
import math
from typing import NamedTuple

import numpy as np

from golden_io import FIXTURES

CHUNK_ELEMENTS = 1 << 15
BLOCK_ELEMENTS = 32
U64_MASK = (1 << 64) - 1

DEFAULTS = {
    "salt": "",
    "experts_per_token": 4,
    "head_dim": 64,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "initial_context_length": 4096,
    "rope_theta": 150000,
    "rope_scaling_factor": 32,
    "rope_ntk_alpha": 1,
    "rope_ntk_beta": 32,
    "note": "",
}
REQUIRED = ("name", "layers", "experts", "hidden", "intermediate", "heads", "kv_heads", "vocab")


class TensorSpec(NamedTuple):
    """One tensor of the original checkpoint; `dtype` is the SafeTensors name, "BF16" or "U8"."""

    name: str
    dtype: str
    shape: tuple

    @property
    def elements(self):
        return math.prod(self.shape)

    @property
    def byte_size(self):
        return self.elements * (2 if self.dtype == "BF16" else 1)


class Bf16Rule(NamedTuple):
    """Sign, exponent `e_low + (0..e_count)` and mantissa of a bf16 element (specification section 10)."""

    e_low: int
    e_count: int
    signed: bool = True


class U8Rule(NamedTuple):
    """A byte `low + (0..count)` (specification section 10)."""

    low: int
    count: int


# Specification section 10, by the end of the original tensor name; the first match counts.
RULES = (
    ("mlp1_weight.blocks", U8Rule(0, 256)),
    ("mlp2_weight.blocks", U8Rule(0, 256)),
    ("mlp1_weight.scales", U8Rule(120, 5)),
    ("mlp2_weight.scales", U8Rule(120, 5)),
    ("bias", Bf16Rule(120, 5)),
    ("unembedding.weight", Bf16Rule(121, 4)),
    ("embedding.weight", Bf16Rule(124, 4)),
    ("attn.qkv.weight", Bf16Rule(121, 4)),
    ("attn.out.weight", Bf16Rule(118, 4)),
    ("mlp.gate.weight", Bf16Rule(122, 4)),
    ("attn.sinks", Bf16Rule(125, 3)),
    ("norm.scale", Bf16Rule(126, 2, signed=False)),
)


def load_recipe(name):
    """Read `fixtures/<name>.json`, reject unknown or missing keys, fill in the defaults."""
    recipe = json.loads((FIXTURES / f"{name}.json").read_text())
    unknown = set(recipe) - set(REQUIRED) - set(DEFAULTS)
    missing = set(REQUIRED) - set(recipe)
    assert not unknown and not missing, (name, unknown, missing)
    assert recipe["name"] == name, (name, recipe["name"])
    return {**DEFAULTS, **recipe}


def fnv1a_64(data):
    """FNV-1a, 64 bits, with the published offset basis and prime."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & U64_MASK
    return value


def seed_of(salt, name):
    """Seed of a tensor: FNV-1a-64 of salt and original name, made odd (design section 4)."""
    return fnv1a_64((salt + name).encode("utf-8")) | 1


def swap_halves(x):
    """Rotate each u64 by 32 bits, in place."""
    high = x >> np.uint64(32)
    np.left_shift(x, np.uint64(32), out=x)
    np.bitwise_or(x, high, out=x)


def squares32(start, count, seed):
    """squares32 of the counters start..start+count: four rounds of a counter-based generator, u64 wrapping
    (specification section 4.2; Widynski, "Squares: A Fast Counter-Based RNG")."""
    y = np.arange(start, start + count, dtype=np.uint64)
    y *= np.uint64(seed)
    z = y + np.uint64(seed)
    x = y.copy()
    for addend in (y, z, y):
        np.multiply(x, x, out=x)
        np.add(x, addend, out=x)
        swap_halves(x)
    np.multiply(x, x, out=x)
    np.add(x, z, out=x)
    return (x >> np.uint64(32)).astype(np.uint32)


def rule_of(name):
    """The fill rule of a tensor."""
    return next(rule for ending, rule in RULES if name.endswith(ending))


def bf16_bits(r, rule):
    """bits = sign | exponent << 7 | mantissa, each from its own bits of r (specification section 10)."""
    exponent = rule.e_low + (r >> np.uint32(16)) % np.uint32(rule.e_count)
    bits = (exponent << np.uint32(7)) | (r & np.uint32(0x7F))
    if rule.signed:
        bits |= r & np.uint32(0x8000)
    return bits.astype("<u2")


def u8_values(r, rule):
    """byte = low + (r >> 8) mod count (specification section 10)."""
    return (rule.low + (r >> np.uint32(8)) % np.uint32(rule.count)).astype(np.uint8)


def tensor_chunks(recipe, spec):
    """Yield the little-endian bytes of a tensor, in row-major order, as small numpy arrays."""
    seed = seed_of(recipe["salt"], spec.name)
    rule = rule_of(spec.name)
    fill = bf16_bits if spec.dtype == "BF16" else u8_values
    for start in range(0, spec.elements, CHUNK_ELEMENTS):
        count = min(CHUNK_ELEMENTS, spec.elements - start)
        yield fill(squares32(start, count, seed), rule)


def tensor_bytes(recipe, spec):
    """All bytes of a tensor."""
    return b"".join(chunk.tobytes() for chunk in tensor_chunks(recipe, spec))


def layer_specs(recipe, n):
    """The 15 tensors of block n (specification section 2)."""
    d, f, e = recipe["hidden"], recipe["intermediate"], recipe["experts"]
    q_rows = recipe["heads"] * recipe["head_dim"]
    qkv_rows = q_rows + 2 * recipe["kv_heads"] * recipe["head_dim"]
    d_blocks, f_blocks = d // BLOCK_ELEMENTS, f // BLOCK_ELEMENTS
    rows = (
        ("attn.norm.scale", "BF16", (d,)),
        ("attn.qkv.weight", "BF16", (qkv_rows, d)),
        ("attn.qkv.bias", "BF16", (qkv_rows,)),
        ("attn.sinks", "BF16", (recipe["heads"],)),
        ("attn.out.weight", "BF16", (d, q_rows)),
        ("attn.out.bias", "BF16", (d,)),
        ("mlp.norm.scale", "BF16", (d,)),
        ("mlp.gate.weight", "BF16", (e, d)),
        ("mlp.gate.bias", "BF16", (e,)),
        ("mlp.mlp1_weight.blocks", "U8", (e, 2 * f, d_blocks, 16)),
        ("mlp.mlp1_weight.scales", "U8", (e, 2 * f, d_blocks)),
        ("mlp.mlp1_bias", "BF16", (e, 2 * f)),
        ("mlp.mlp2_weight.blocks", "U8", (e, d, f_blocks, 16)),
        ("mlp.mlp2_weight.scales", "U8", (e, d, f_blocks)),
        ("mlp.mlp2_bias", "BF16", (e, d)),
    )
    return [TensorSpec(f"block.{n}.{name}", dtype, shape) for name, dtype, shape in rows]


def tensor_specs(recipe):
    """Every tensor of the original checkpoint in the order of the published file: BF16 first, then U8, each by name
    (specification section 2)."""
    d, vocab = recipe["hidden"], recipe["vocab"]
    specs = [
        TensorSpec("embedding.weight", "BF16", (vocab, d)),
        TensorSpec("unembedding.weight", "BF16", (vocab, d)),
        TensorSpec("norm.scale", "BF16", (d,)),
    ]
    for n in range(recipe["layers"]):
        specs += layer_specs(recipe, n)
    return sorted(specs, key=lambda spec: (spec.dtype != "BF16", spec.name))


def config_text(recipe):
    """config.json of the original checkpoint: one line, keys in the published order (specification section 2)."""
    config = {
        "num_hidden_layers": recipe["layers"],
        "num_experts": recipe["experts"],
        "experts_per_token": recipe["experts_per_token"],
        "vocab_size": recipe["vocab"],
        "hidden_size": recipe["hidden"],
        "intermediate_size": recipe["intermediate"],
        "swiglu_limit": float(recipe["swiglu_limit"]),
        "head_dim": recipe["head_dim"],
        "num_attention_heads": recipe["heads"],
        "num_key_value_heads": recipe["kv_heads"],
        "sliding_window": recipe["sliding_window"],
        "initial_context_length": recipe["initial_context_length"],
        "rope_theta": recipe["rope_theta"],
        "rope_scaling_factor": float(recipe["rope_scaling_factor"]),
        "rope_ntk_alpha": recipe["rope_ntk_alpha"],
        "rope_ntk_beta": recipe["rope_ntk_beta"],
    }
    return json.dumps(config)


def check_squares32():
    """The check values of specification section 4.2."""
    metal_test_seed, sampler_seed = 1019827666124465388, 0x123456789ABCDEF
    first = squares32(0, 4, metal_test_seed)
    assert [f"{r:08x}" for r in first] == ["61292ab1", "bec679fb", "339ba758", "8028a7db"], first
    second = squares32(0, 10, sampler_seed)[[0, 1, 8, 9]]
    assert [f"{r:08x}" for r in second] == ["44c1b137", "224fdaac", "f2ee76b9", "ba0d9520"], second


# Specification section 10: first bytes of tensors of T1 and a prefix of the SHA-256 of the whole tensor.
T1_CHECKS = (
    ("embedding.weight", "003f85be953f7abe", "d63dc0fec361dd48"),
    ("block.0.attn.qkv.weight", "00bd13be5cbe55bd", "1797010e179f0774"),
    ("block.1.mlp.mlp1_weight.blocks", "20add918ec22aa7f", "48e40c4314dc90ae"),
    ("block.1.mlp.mlp1_weight.scales", "7a7b797a787b7b78", "01ba5cc59f47b5e9"),
)


def check_t1():
    """The first bytes and digest prefixes of specification section 10."""
    recipe = load_recipe("T1")
    specs = {spec.name: spec for spec in tensor_specs(recipe)}
    for name, first_bytes, digest in T1_CHECKS:
        data = tensor_bytes(recipe, specs[name])
        assert data[:8].hex() == first_bytes, (name, data[:8].hex())
        assert hashlib.sha256(data).hexdigest().startswith(digest), name


def check_published_shapes():
    """The published 20b: 376 bytes of config.json, 363 tensors, 13 761 300 984 bytes with a header of 36 216 bytes
    (specification section 2); 543 tensors for 120b."""
    recipe = load_recipe("full-20b")
    assert len(config_text(recipe)) == 376, len(config_text(recipe))
    assert len(tensor_specs(recipe)) == 363
    assert sum(spec.byte_size for spec in tensor_specs(recipe)) + 36216 == 13_761_300_984
    assert len(tensor_specs(load_recipe("full-120b"))) == 543


def check_chunking():
    """A chunk boundary changes nothing: the counter is the flat element index."""
    whole = squares32(0, 3000, 12345)
    parts = itertools.chain(squares32(0, 1777, 12345), squares32(1777, 1223, 12345))
    assert list(whole) == list(parts)


def self_check():
    """Every check of this module; raises on the first that fails."""
    check_squares32()
    check_chunking()
    check_t1()
    check_published_shapes()


if __name__ == "__main__":
    self_check()
    print("recipe: all check values reproduced")

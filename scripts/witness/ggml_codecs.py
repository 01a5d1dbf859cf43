"""ggml's reference codecs on edge blocks and a million random ones -> goldens/tensors/ggml-{decode,encode}.json.

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    python3 scripts/witness/ggml_codecs.py --sdist llama_cpp_python-0.3.36.tar.gz

Inputs come from splitmix64 of an index, so that another program can make them again. Every NaN counts as 7fc00000.
PyPI `gguf` is the second witness: its numpy code must agree on all blocks whose values are finite.
"""

import argparse
import hashlib

import gguf
import numpy as np

from ggml_library import Ggml
from golden_io import sha256_hex, write_golden

PACKAGES = ("gguf", "numpy")
BLOCKS = 1_000_000
PARTS = 16
SCALES = 1 << 16
SCALES_FIRST = 1 << 32
PIECE = 12_500
GOLDEN_GAMMA = 0x9E3779B97F4A7C15

# name: values and bytes of a block, C function, where its f16 scales are (E8M0: one byte)
TYPES = {
    "F32": (1, 4, "witness_f32", ()),
    "F16": (1, 2, "witness_f16", (0,)),
    "BF16": (1, 2, "witness_bf16", (0,)),
    "Q8_0": (32, 34, "dequantize_row_q8_0", (0,)),
    "Q4_0": (32, 18, "dequantize_row_q4_0", (0,)),
    "Q5_0": (32, 22, "dequantize_row_q5_0", (0,)),
    "Q5_1": (32, 24, "dequantize_row_q5_1", (0, 2)),
    "IQ4_NL": (32, 18, "dequantize_row_iq4_nl", (0,)),
    "MXFP4": (32, 17, "dequantize_row_mxfp4", ()),
    "Q4_K": (256, 144, "dequantize_row_q4_K", (0, 2)),
    "Q5_K": (256, 176, "dequantize_row_q5_K", (0, 2)),
    "Q6_K": (256, 210, "dequantize_row_q6_K", (208,)),
}
ENCODERS = {"Q8_0": (34, "quantize_row_q8_0_ref"), "MXFP4": (17, "quantize_row_mxfp4_ref")}


def splitmix(seed, index):
    """The splitmix64 output of `seed + (index + 1) · gamma`, for an array of indices."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seed_of(name):
    """FNV-1a of the type's name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


def random_blocks(name, first, count):
    """Blocks `first..first + count`: each takes the words it needs, little-endian, and drops the rest of the last."""
    size = TYPES[name][1]
    words = -(-size // 8)
    index = np.arange(first * words, (first + count) * words, dtype=np.uint64)
    data = splitmix(seed_of(name), index).astype("<u8").view(np.uint8).reshape(count, words * 8)
    return np.ascontiguousarray(data[:, :size])


def scale_blocks(name, first, count):
    """Random blocks whose f16 scales take every pattern: i, and i · 40503 + 12345; an E8M0 scale i mod 256."""
    blocks = random_blocks(name, SCALES_FIRST + first, count)
    index = np.arange(first, first + count, dtype=np.uint32)
    for at, pattern in zip(TYPES[name][3], (index, index * 40503 + 12345)):
        blocks[:, at : at + 2] = (pattern & 0xFFFF).astype("<u2").view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:, 0] = index & 0xFF
    return blocks


def canonical(values):
    """Bits of f32 values, every NaN as 7fc00000."""
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32)).astype("<u4")


def decoded(ggml, name, blocks):
    """Canonical bits of the blocks' values, after asking the second witness."""
    values, _, function, _ = TYPES[name]
    found = ggml.decode(function, blocks, blocks.shape[0] * values)
    second = second_witness(name, blocks)
    finite = np.isfinite(found)
    assert second is None or np.array_equal(found[finite], second[finite]), name
    return canonical(found)


def second_witness(name, blocks):
    """The same blocks by PyPI gguf; None for what numpy itself does not overflow alike."""
    kind = gguf.GGMLQuantizationType[name]
    with np.errstate(all="ignore"):
        if name in ("F32", "F16"):
            return blocks.reshape(-1).view({"F32": np.float32, "F16": np.float16}[name]).astype(np.float32)
        return gguf.dequantize(blocks, kind).reshape(-1)


def digest(ggml, name, make, first, count):
    """SHA-256 of the canonical values of `count` blocks."""
    sha = hashlib.sha256()
    for start in range(first, first + count, PIECE):
        blocks = make(name, start, min(PIECE, first + count - start))
        sha.update(decoded(ggml, name, blocks).tobytes())
    return sha.hexdigest()


def edge_blocks(name):
    """A few blocks in full, to look at: random codes under telling scales."""
    values, size, _, scales = TYPES[name]
    if values == 1:
        return
    patterns = {"one": 0x3C00, "smallest-subnormal": 0x0001, "negative": 0xB555, "infinite": 0x7C00}
    if values == 256:
        patterns = {"one": 0x3C00, "largest-subnormal": 0x83FF}
    if name == "MXFP4":
        patterns = {"one": 127, "zero": 0, "half-subnormal": 1, "largest": 254, "nan-of-ocp": 255}
    for index, (label, pattern) in enumerate(patterns.items()):
        block = random_blocks(name, 2 * SCALES_FIRST + index, 1)
        for at in scales:
            block[0, at : at + 2] = np.array([pattern], dtype="<u2").view(np.uint8)
        if name == "MXFP4":
            block[0, 0] = pattern
            block[0, 1:] = (np.arange(16) * 0x11)[:: 1 if index % 2 else -1]
        yield label, block


def hex_words(bits):
    """32-bit words as hex, separated by spaces."""
    return " ".join(f"{int(b):08x}" for b in bits)


def decode_payload(ggml):
    """Every type: edges in full, all scales and a million random blocks as digests."""
    payload = {}
    per_part = BLOCKS // PARTS
    for name, (values, size, _, _) in TYPES.items():
        edges = [{"name": label, "block": block.tobytes().hex(), "values": hex_words(decoded(ggml, name, block))}
                 for label, block in edge_blocks(name)]
        payload[name] = {
            "values": values, "bytes": size, "edges": edges,
            "scales": digest(ggml, name, scale_blocks, 0, SCALES),
            "random": [digest(ggml, name, random_blocks, part * per_part, per_part) for part in range(PARTS)],
        }
        print(name)
    return payload


def power(exponent):
    """2^exponent as f32, for exponents of normal numbers."""
    return ((exponent + 127).astype(np.uint32) << np.uint32(23)).view(np.float32)


def signed(u, magnitude_bits):
    """Bits with the sign of bit 63 of u."""
    return (magnitude_bits.astype(np.uint32) | ((u >> np.uint64(63)).astype(np.uint32) << np.uint32(31))).view(np.float32)


def encoder_rows(first, count):
    """Blocks of 32 f32 in eight kinds by index, each from splitmix64 of the block (h) and of the value (u)."""
    seed = seed_of("encode")
    block = np.arange(first, first + count, dtype=np.uint64)
    h = splitmix(seed + 1, block)[:, None]
    u = splitmix(seed, np.arange(first * 32, (first + count) * 32, dtype=np.uint64)).reshape(count, 32)
    pick = u >> np.uint64(40)
    mantissa = (u & np.uint64(0x7FFFFF)).astype(np.uint32)
    place = np.arange(32)[None, :]

    def mod(x, n):
        return (x % np.uint64(n)).astype(np.int64)

    def bits(exponent):
        return signed(u, (exponent.astype(np.uint32) << np.uint32(23)) | mantissa)

    uniform = (u & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).astype(np.float32) * power(mod(h, 40) - 51)
    wide = bits(2 + mod(h, 240) + mod(pick, 8))
    finite = bits(mod(pick, 255))
    n = mod(h, 200) - 100
    half_steps = np.where(place == 0, 254, 2 * mod(pick, 127) + 1).astype(np.float32) * power(n - 1)
    midpoints = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=np.float32)[mod(pick, 7)]
    midpoints = np.where(place == 0, np.float32(6.0), midpoints) * power(n)
    exponent = 10 + mod(h, 240)
    steps_below = (exponent.astype(np.uint32) << np.uint32(23)) - 1 - mod(h >> np.uint64(8), 16).astype(np.uint32)
    small = ((exponent - 2 - mod(pick, 6)).astype(np.uint32) << np.uint32(23)) | mantissa
    below = signed(u, np.where(place == mod(h >> np.uint64(16), 32), steps_below, small))
    zeros = np.where((mod(pick, 4) != 0) | (mod(h, 8) == 0), np.float32(0.0), np.abs(uniform)).view(np.uint32)
    ties = np.where(mod(h, 2) == 0, half_steps, midpoints).view(np.uint32)
    nudged = (ties.astype(np.int64) + mod(pick >> np.uint64(8), 3) - 1).astype(np.uint32)
    kinds = [uniform, wide, finite, signed(u, half_steps.view(np.uint32)), signed(u, midpoints.view(np.uint32)), below,
             signed(u, zeros), signed(u, nudged)]
    kind = mod(block, 8)[:, None]
    return np.select([kind == k for k in range(8)], [np.broadcast_to(rows, (count, 32)) for rows in kinds])


def encoder_edges():
    """Named blocks of 32 for which the C text has a defined meaning."""
    def filled(first, rest):
        return np.array(list(first) + [rest] * (32 - len(first)), dtype=np.float32)
    yield "all-zero", filled([], 0.0)
    yield "all-negative-zero", filled([], -0.0)
    yield "largest-negative", filled([-127.0, 0.5, -0.5, 1.5, 2.5, -2.5, 126.5], 63.5)
    yield "largest-f32", filled([np.finfo(np.float32).max], np.finfo(np.float32).max / 8)
    yield "scale-becomes-a-subnormal-f16", filled([127 * 2.0**-20], 2.0**-20 * 3)
    yield "scale-becomes-zero", filled([127 * 2.0**-26], 2.0**-26)
    yield "smallest-scale-of-mxfp4", filled([2.0**-125, -(2.0**-126), 2.0**-127], 2.0**-128)
    yield "mxfp4-codes", filled([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6], 0.25)
    yield "just-below-a-power-of-two", filled([np.nextafter(np.float32(8), np.float32(0))], 1.0)


def encode_payload(ggml):
    """Edges in full; a million blocks as digests."""
    per_part = BLOCKS // PARTS
    payload = {}
    for name, (size, function) in ENCODERS.items():
        def packed(values):
            return ggml.encode(function, values, values.size // 32 * size)
        edges = [{"name": label, "input": hex_words(values.view(np.uint32)), "packed": packed(values).tobytes().hex()}
                 for label, values in encoder_edges()]
        digests = [sha256_hex(packed(encoder_rows(part * per_part, per_part)).tobytes()) for part in range(PARTS)]
        payload[name] = {"edges": edges, "random": digests}
    # The digest of the inputs themselves: a reader that makes others sees that first.
    payload["inputs"] = sha256_hex(encoder_rows(0, per_part).astype("<f4").tobytes())
    payload["repack"] = repack_payload(ggml)
    return payload


def repack_payload(ggml):
    """65 536 blocks of the checkpoint's order through llama.cpp's converter: digest of its 16 bytes a block."""
    blocks = random_blocks("MXFP4", 3 * SCALES_FIRST, SCALES)[:, 1:]
    return sha256_hex(ggml.converter_nibbles(blocks).astype(np.uint8).tobytes())


def main():
    """Write both goldens."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sdist", required=True, help="the source package of llama-cpp-python")
    ggml = Ggml(arguments.parse_args().sdist)
    common = {"producer": "ggml_codecs.py", "packages": PACKAGES, "arguments": "--sdist LLAMA_CPP_PYTHON_SDIST",
              "upstream": f"{ggml.package} ({ggml.version()})"}
    write_golden("tensors/ggml-encode", encode_payload(ggml), **common,
                 source="ggml's reference encoders (ggml-quants.c, compiled) and the nibble order of llama.cpp's converter.")
    write_golden("tensors/ggml-decode", decode_payload(ggml), **common,
                 source="ggml's reference decoders (ggml-quants.c, compiled); PyPI gguf agrees on all finite values.")


if __name__ == "__main__":
    main()

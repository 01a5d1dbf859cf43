"""Rows quantised by ggml's own code, and that their codes are the nearest -> goldens/tensors/ggml-nearest.json.

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
    python3 scripts/witness/ggml_nearest.py --sdist llama_cpp_python-0.3.36.tar.gz

The quantisers are those that write files (`quantize_*`, as llama-quantize calls them), without weights and with some (an
importance matrix).  BF16 inputs come from splitmix64 of an index.  What `src/verify/check/quantised.rs` demands of every
code is demanded here of a million, by numpy, before anything is written: a second reading of the same C code.
"""

import argparse
import ctypes

import numpy as np

from ggml_codecs import seed_of, splitmix
from ggml_library import Ggml
from golden_io import sha256_hex, write_golden

VALUES = 256
SAMPLE = 8
CHECKED = 4096
EPSILON = 2.0**-24
IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float64)

# name: bytes of 256 values, C function
TYPES = {
    "Q4_0": (144, "quantize_q4_0"),
    "Q5_0": (176, "quantize_q5_0"),
    "Q5_1": (192, "quantize_q5_1"),
    "IQ4_NL": (144, "quantize_iq4_nl"),
    "Q4_K": (144, "quantize_q4_K"),
    "Q5_K": (176, "quantize_q5_K"),
    "Q6_K": (210, "quantize_q6_K"),
}
# With weights, these types keep codes of a search that then changes its scale: they need not be the nearest.
SEARCHED = ("Q4_0", "Q5_0", "Q5_1")


def inputs(first, count):
    """Super-blocks `first .. first + count` of 256 BF16 values, in eight kinds by index, as f32."""
    index = np.arange(first * VALUES, (first + count) * VALUES, dtype=np.uint64)
    word = splitmix(seed_of("nearest"), index)
    group = splitmix(seed_of("nearest") + 1, index // np.uint64(16))
    kind = index // np.uint64(VALUES) % np.uint64(8)
    quarters = sum((word >> np.uint64(16 * q)) & np.uint64(0xFFFF) for q in range(4)).astype(np.int64) - 131070
    exponent = (group % np.uint64(6)).astype(np.int64)
    bell = quarters * 2.0 ** (exponent - 20)
    ties = np.where(index % np.uint64(32) == 0, -16, (word % np.uint64(32)).astype(np.int64) - 16) * 2.0**-7
    values = np.select(
        [kind == 3, kind == 4, kind == 5, kind == 6, kind == 7],
        [
            bell * 2.0**-20,
            (group // np.uint64(2) % np.uint64(3)).astype(np.int64) * 0.25 - 0.25,
            ties,
            np.where(group % np.uint64(3) == 0, 0.0, bell),
            np.abs(bell),
        ],
        bell,
    ).astype(np.float32)
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).reshape(count, VALUES)


def weights():
    """An importance for each of the 256 columns, from 0.002 to 2."""
    word = splitmix(seed_of("importance"), np.arange(VALUES, dtype=np.uint64))
    return ((word % np.uint64(1000) + np.uint64(1)).astype(np.float64) / 500).astype(np.float32)


def quantise(ggml, name, values, importance):
    """Packed bytes [super-blocks, bytes]; every super-block a row."""
    size, function = TYPES[name]
    out = np.zeros((len(values), size), dtype=np.uint8)
    source = np.ascontiguousarray(values)
    column_weights = None if importance is None else ctypes.c_void_p(importance.ctypes.data)
    call = ggml.library[function]
    call.restype = ctypes.c_size_t
    written = call(ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(len(values)),
                   ctypes.c_int64(VALUES), column_weights)
    assert written == out.size, (name, written, out.size)
    return out


def halves(blocks, at):
    """The f16 at byte `at` of each block, [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float64)


def nibbles(data):
    """Codes 0..16 from the low halves of 16 bytes, 16..32 from the high ones."""
    return np.concatenate((data & 15, data >> 4), axis=1).astype(np.float64)


def small_levels(name, packed):
    """Step, offset and code of every value of the types of 32 a block."""
    blocks = packed.reshape(-1, TYPES[name][0] // 8)
    step, offset = halves(blocks, 0), np.zeros((len(blocks), 1))
    if name in ("Q4_0", "IQ4_NL"):
        codes = nibbles(blocks[:, 2:])
        return step, offset, codes - 8 if name == "Q4_0" else IQ4_NL[codes.astype(int)]
    at = 2 if name == "Q5_0" else 4
    high = np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little")
    codes = nibbles(blocks[:, at + 4 :]) + 16.0 * high
    return (step, offset, codes - 16) if name == "Q5_0" else (step, halves(blocks, 2), codes)


def k_levels(name, blocks):
    """The same of the K types, sub-block by sub-block."""
    count = len(blocks)
    if name == "Q6_K":
        low = blocks[:, :128].reshape(count, 2, 2, 32)
        low = np.stack((low[:, :, 0] & 15, low[:, :, 1] & 15, low[:, :, 0] >> 4, low[:, :, 1] >> 4), axis=2)
        high = blocks[:, 128:192].reshape(count, 2, 1, 32) >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None] & 3
        codes = (low | high << 4).reshape(-1, 16).astype(np.float64) - 32
        scales = blocks[:, 192:208].view(np.int8).astype(np.float64)
        return (halves(blocks, 208) * scales).reshape(-1, 1), np.zeros((count * 16, 1)), codes
    scales = blocks[:, 4:16]
    sc = np.concatenate((scales[:, :4] & 63, scales[:, 8:] & 15 | scales[:, :4] >> 6 << 4), axis=1)
    minimum = np.concatenate((scales[:, 4:8] & 63, scales[:, 8:] >> 4 | scales[:, 4:8] >> 6 << 4), axis=1)
    data = blocks[:, -128:].reshape(count, 4, 1, 32)
    codes = np.concatenate((data & 15, data >> 4), axis=2).reshape(count, 8, 32)
    if name == "Q5_K":
        codes = codes | (blocks[:, 16:48].reshape(count, 1, 32) >> np.arange(8, dtype=np.uint8)[:, None] & 1) << 4
    step, offset = halves(blocks, 0) * sc, -halves(blocks, 2) * minimum
    return step.reshape(-1, 1), offset.reshape(-1, 1), codes.reshape(-1, 32).astype(np.float64)


def farthest(values, step, offset, codes, low, high):
    """How far the codes are from the place of their value, in steps, beyond what three f32 roundings add."""
    with np.errstate(all="ignore"):
        place = np.clip((values - offset) / step, low, high)
        beyond = np.abs(place - codes) - 3 * EPSILON * np.abs(place)
    return np.where(step == 0, 0, beyond).max()


def encoders_scale(name, values):
    """The scale before it is rounded to f16, and the minimum: what the code computes in f32."""
    if name == "Q5_1":
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        return (high - low) / np.float32(31), low
    first = np.abs(values).argmax(axis=1)[:, None]
    return np.take_along_axis(values, first, 1) / np.float32(-8 if name == "Q4_0" else -16), np.zeros_like(first)


def reciprocals_left(values, step, codes):
    """Whether each block of IQ4_NL has one reciprocal of the scale under which all its codes are the nearest."""
    bits = np.abs(step).astype("<f2").view(np.uint16).astype(np.int64)
    near = [(bits + shift).astype(np.uint16).view("<f2").astype(np.float64) for shift in (-1, 1)]
    ends = 1 / ((np.abs(step) + near[0]) / 2), 1 / ((np.abs(step) + near[1]) / 2)
    middles = np.concatenate(([-np.inf], (IQ4_NL[1:] + IQ4_NL[:-1]) / 2, [np.inf]))
    at = np.searchsorted(IQ4_NL, codes)
    slack = 127 * 4 * EPSILON
    signed = values * np.sign(step)
    below, above = middles[at] - slack, middles[at + 1] + slack
    with np.errstate(all="ignore"):
        low = np.where(signed > 0, below / signed, np.where(signed < 0, above / signed, 0)).max(axis=1)
        high = np.where(signed > 0, above / signed, np.where(signed < 0, below / signed, np.inf)).min(axis=1)
    fits = np.maximum(low, ends[1][:, 0]) <= np.minimum(high, ends[0][:, 0])
    zeros = ((signed != 0) | ((below <= 0) & (above >= 0))).all(axis=1)
    return fits & zeros | (step[:, 0] == 0)


def check(name, values, packed):
    """Demands of every code that it is the nearest level, as far as f32 arithmetic can tell."""
    if name.endswith("_K"):
        step, offset, codes = k_levels(name, packed)
        low, high = {"Q4_K": (0, 15), "Q5_K": (0, 31), "Q6_K": (-32, 31)}[name]
        worst = farthest(values.reshape(codes.shape).astype(np.float64), step, offset, codes, low, high)
        assert worst <= 0.5, (name, worst)
        return worst
    step, offset, codes = small_levels(name, packed)
    values = values.reshape(codes.shape)
    if name == "IQ4_NL":
        assert reciprocals_left(values.astype(np.float64), step, codes).all(), name
        return 0.5
    scale, minimum = encoders_scale(name, values)
    assert np.array_equal(scale.astype("<f2").astype(np.float64), step), name
    assert np.array_equal(minimum.astype("<f2").astype(np.float64), offset), name
    low, high = {"Q4_0": (-8, 7), "Q5_0": (-16, 15), "Q5_1": (0, 31)}[name]
    exact = np.where(step == 0, 0, scale.astype(np.float64))
    # Adding 8.5, 16.5 or 0.5 before the cut rounds a number below 32 once more, or one above it for a value that clamps.
    worst = farthest(values.astype(np.float64), exact, minimum, codes, low, high) - 2.0**-19
    assert worst <= 0.5, (name, worst)
    return worst


def main():
    """Check a million values of each type, then write a few of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sdist", required=True, help="the source package of llama-cpp-python")
    ggml = Ggml(parser.parse_args().sdist)
    values, importance = inputs(0, CHECKED), weights()
    plain, weighted = {}, {}
    for name in TYPES:
        for found, columns in ((plain, None), (weighted, importance)):
            packed = quantise(ggml, name, values, columns)
            if columns is None or name not in SEARCHED:
                print(name, "weighted" if columns is not None else "plain", check(name, values, packed))
            found[name] = [block.tobytes().hex() for block in packed[:SAMPLE]]
    bits = values[:SAMPLE].view(np.uint32).astype("<u4").tobytes()
    write_golden("tensors/ggml-nearest", {"plain": plain, "weighted": weighted, "inputs": sha256_hex(bits)},
                 producer="ggml_nearest.py", packages=("gguf", "numpy"), arguments="--sdist LLAMA_CPP_PYTHON_SDIST",
                 upstream=f"{ggml.package} ({ggml.version()})",
                 source="ggml's quantisers (ggml-quants.c, compiled), as llama-quantize calls them, without and with weights.")


if __name__ == "__main__":
    main()

"""MXFP4 and bf16 conversions by PyPI `ml_dtypes` -> goldens/tensors/{mxfp4-decode,mxfp4-encode,bf16}.json.

Bit patterns are hex, most significant digit first; lists of patterns are one string, separated by spaces.
"""

import ml_dtypes
import numpy as np

from golden_io import sha256_hex, write_golden

PACKAGES = ("ml_dtypes", "numpy")
SEED = 20250805
SCALE_BIAS = 127
E2M1_EMAX = 2
E2M1_MAX = 6.0
BLOCK = 32
MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
E2M1_VALUES = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)


def hex_words(bits, digits):
    """Integers as one string of hex words."""
    return " ".join(f"{int(b):0{digits}x}" for b in bits)


def f32_bits(values):
    """Bit patterns of f32 values; every NaN becomes 7fc00000."""
    values = np.asarray(values, dtype=np.float32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


def bf16_bits(values):
    """Bit patterns of f32 values rounded to bf16 by ml_dtypes; every NaN becomes 7fc0."""
    rounded = np.asarray(values, dtype=np.float32).astype(ml_dtypes.bfloat16)
    return np.where(np.isnan(rounded), np.uint16(0x7FC0), rounded.view(np.uint16))


# ---- decode ---------------------------------------------------------------------------------------------------------


def decode_row(scale):
    """The 16 products of one scale byte in f64, where they are exact: OCP MX 1.0, element value times 2^(scale-127)."""
    factor = np.uint8([scale]).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)[0]
    return E2M1_VALUES * factor


def check_decode_exact(exact, rounded):
    """A product is representable in f32, or it overflows to infinity."""
    finite = np.isfinite(rounded)
    assert np.array_equal(rounded[finite].astype(np.float64), exact[finite])
    assert np.all(np.isnan(exact[~finite]) | (np.abs(exact[~finite]) >= 2.0**128))


def decode_payload():
    """All 256 scales times 16 codes, as f32 and as bf16."""
    rows, bf16_rows = [], []
    for scale in range(256):
        exact = decode_row(scale)
        with np.errstate(over="ignore"):
            rounded = exact.astype(np.float32)
        check_decode_exact(exact, rounded)
        rows.append(hex_words(f32_bits(rounded), 8))
        bf16_rows.append(hex_words(bf16_bits(rounded), 4))
    return {"rows": rows, "bf16_rows": bf16_rows}


# ---- encode ---------------------------------------------------------------------------------------------------------


def shared_scale(block):
    """E8M0 byte: floor(log2(amax)) - emax of the element type + 127, clamped; 0 for an all-zero block (OCP MX 1.0,
    section 6.3)."""
    amax = float(np.max(np.abs(block)))
    if amax == 0.0:
        return 0
    _, exponent = np.frexp(amax)
    return int(np.clip(exponent - 1 - E2M1_EMAX + SCALE_BIAS, 0, 254))


def nearest_code(value):
    """E2M1 by definition: nearest magnitude, ties to the even code, saturating, sign kept."""
    magnitudes = E2M1_VALUES[:8]
    code = min(range(8), key=lambda c: (abs(magnitudes[c] - abs(value)), c % 2))
    return code | (8 if np.signbit(value) else 0)


def encode_block(name, block):
    """Quantise 32 f32 values: scale by the shared exponent in f64 (exact), cast to E2M1 by ml_dtypes, pack two per byte."""
    block = np.asarray(block, dtype=np.float32)
    assert block.shape == (BLOCK,) and np.all(np.isfinite(block)), name
    scale = shared_scale(block)
    scaled = block.astype(np.float64) / 2.0 ** (scale - SCALE_BIAS)
    codes = scaled.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    assert list(codes) == [nearest_code(x) for x in scaled], name
    packed = codes[0::2] | (codes[1::2] << np.uint8(4))
    return {
        "name": name,
        "input": hex_words(f32_bits(block), 8),
        "scale": scale,
        "packed": packed.tobytes().hex(),
    }


def filled(values, rest):
    """`values` first, `rest` in the remaining places of a block."""
    return np.array(list(values) + [rest] * (BLOCK - len(values)), dtype=np.float32)


def one_at(index, value, rest):
    """`value` at `index`, `rest` elsewhere."""
    block = np.full(BLOCK, rest, dtype=np.float32)
    block[index] = value
    return block


def tie_block(nudge):
    """Every midpoint in both signs, moved by one f32 step outwards (+1), inwards (-1) or not (0); then 6 and 4."""
    ties = np.array(MIDPOINTS + tuple(-m for m in MIDPOINTS), dtype=np.float32)
    towards = {0: ties, 1: np.copysign(np.float32(np.inf), ties), -1: np.zeros_like(ties)}[nudge]
    return filled(list(np.nextafter(ties, towards)) + [6.0, -6.0], 4.0)


def below(x):
    """The f32 before x."""
    return np.nextafter(np.float32(x), np.float32(0))


def edge_blocks():
    """The named edge cases."""
    f32_max = np.finfo(np.float32).max
    ties = tie_block(0)
    step = np.float32(2.0**-149)
    yield "all-zero", np.zeros(BLOCK)
    yield "all-negative-zero", np.full(BLOCK, -0.0)
    yield "zeros-of-both-signs-beside-one", filled([1.0, 0.0, -0.0, 0.0, -0.0], -0.0)
    yield "all-equal-one", np.full(BLOCK, 1.0)
    yield "all-equal-minus-six", np.full(BLOCK, -6.0)
    yield "all-equal-tenth", np.full(BLOCK, 0.1)
    yield "every-code-then-reversed", np.concatenate([E2M1_VALUES, E2M1_VALUES[::-1]])
    yield "ties", ties
    yield "ties-one-step-inwards", tie_block(-1)
    yield "ties-one-step-outwards", tie_block(1)
    yield "ties-times-2^-20", ties * np.float32(2.0**-20)
    yield "ties-times-2^60", ties * np.float32(2.0**60)
    yield "ties-at-the-largest-scale", ties * np.float32(2.0**125)
    yield "ties-at-scale-byte-one", ties * np.float32(2.0**-126)
    yield "ties-at-scale-byte-zero", ties * np.float32(2.0**-127)
    yield "scale-clamped-at-zero", ties * np.float32(2.0**-128)
    yield "saturation", filled(np.linspace(6.0, 7.75, 15), below(8.0))
    yield "saturation-negative", filled(-np.linspace(6.0, 7.75, 15), -below(8.0))
    yield "largest-is-eight", filled([8.0, 7.0, 6.0, 5.0, 3.5, 2.5, 1.5, 0.5, -8.0, -7.0], 1.0)
    yield "just-below-a-power-of-two", one_at(3, below(4.0), 1.0)
    yield "negative-largest", filled([-5.5, 5.0, 2.5], 1.0)
    yield "smallest-subnormals", np.arange(BLOCK, dtype=np.float32) * step
    yield "one-smallest-subnormal", one_at(31, step, 0.0)
    yield "largest-subnormal", filled([np.float32(2.0**-126) - step, -(np.float32(2.0**-126) - step)], 2.0**-127)
    yield "f32-max", filled([f32_max, -f32_max], f32_max / 8)
    yield "outlier-first", one_at(0, 1000.0, 0.001)
    yield "outlier-last", one_at(31, -1000.0, 90.0)
    yield "powers-of-two", np.ldexp(1.0, 2 - np.arange(BLOCK))
    yield "powers-of-two-alternating-sign", np.ldexp((-1.0) ** np.arange(BLOCK), np.arange(BLOCK) - 20)


def random_blocks():
    """Blocks from a fixed seed: normal and uniform values of several sizes, and mixed exponents inside a block."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    for exponent in (-140, -100, -30, -8, 0, 8, 30, 120):
        yield f"normal-times-2^{exponent}", rng.standard_normal(BLOCK) * 2.0**exponent
    for exponent in (-126, -4, 0, 126):
        yield f"uniform-times-2^{exponent}", rng.uniform(-1.0, 1.0, BLOCK) * 2.0**exponent
    for spread in (3, 10, 40):
        mixed = rng.standard_normal(BLOCK) * 2.0 ** rng.integers(-spread, spread + 1, BLOCK)
        yield f"mixed-exponents-{spread}", mixed


def encode_payload():
    """The edge cases, then the random blocks."""
    blocks = list(edge_blocks()) + list(random_blocks())
    return {"blocks": [encode_block(name, block) for name, block in blocks]}


# ---- bf16 -----------------------------------------------------------------------------------------------------------

F32_EDGES = (
    *(0x00000000, 0x00000001, 0x00007FFF, 0x00008000, 0x00008001, 0x00010000, 0x00018000, 0x00028000),
    *(0x007F7FFF, 0x007F8000, 0x007F8001, 0x007FFFFF, 0x00800000, 0x00800001, 0x00808000, 0x00818000),
    *(0x3F800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F810000, 0x3F817FFF, 0x3F818000, 0x3F818001),
    *(0x3F7FFFFF, 0x3FFF7FFF, 0x3FFF8000, 0x3FFFFFFF, 0x3DCCCCCD, 0x40490FDB, 0x42F6E979, 0x4B800001),
    *(0x7F000000, 0x7F7F0000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7F8001, 0x7F7FFFFF, 0x7F7EFFFF, 0x7F800000),
)


def f32_inputs():
    """Edge patterns in both signs, then random patterns: any, exact ties, and one step to either side of a tie."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    edges = np.array(F32_EDGES, dtype=np.uint32)
    anything = rng.integers(0, 1 << 32, 60, dtype=np.uint32)
    highs = rng.integers(0, 1 << 16, 60, dtype=np.uint32) << np.uint32(16)
    lows = np.array([0x8000, 0x7FFF, 0x8001], dtype=np.uint32)[np.arange(60) % 3]
    bits = np.concatenate([edges, edges | np.uint32(1 << 31), anything, highs | lows])
    return bits[(bits & np.uint32(0x7FFFFFFF)) <= 0x7F800000]


def rne_bits(bits):
    """Round to nearest even on the integer pattern, as a cross-check of ml_dtypes."""
    return ((bits.astype(np.uint64) + 0x7FFF + ((bits >> np.uint32(16)) & 1)) >> 16).astype(np.uint16)


def from_f32_pairs():
    """[f32, bf16] pairs without NaN."""
    bits = f32_inputs()
    rounded = bf16_bits(bits.view(np.float32))
    assert np.array_equal(rounded, rne_bits(bits))
    return [[f"{a:08x}", f"{b:04x}"] for a, b in zip(bits, rounded, strict=True)]


def scaled_digest(factor):
    """SHA-256 over all 65536 patterns, in order: widen to f32, multiply, round to bf16, little-endian; 0000 for NaN."""
    patterns = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    values = patterns.view(ml_dtypes.bfloat16).astype(np.float32)
    numbers = np.where(np.isnan(values), np.float32(0), values)
    return sha256_hex(bf16_bits(numbers * np.float32(factor)).astype("<u2").tobytes())


def bf16_payload():
    """Conversions from f32, and the two scalings of the model.bin export."""
    return {
        "from_f32": from_f32_pairs(),
        "halved_sha256": scaled_digest(0.5),
        "quartered_sha256": scaled_digest(0.25),
    }


def main():
    """Write the three goldens."""
    common = {"producer": "codecs.py", "packages": PACKAGES}
    write_golden("tensors/mxfp4-decode", decode_payload(), **common,
                 source="Element and scale values of PyPI ml_dtypes (float4_e2m1fn, float8_e8m0fnu), multiplied exactly in f64.")
    write_golden("tensors/mxfp4-encode", encode_payload(), **common,
                 source="Shared exponent of the OCP MX 1.0 specification and the float4_e2m1fn cast of PyPI ml_dtypes.")
    write_golden("tensors/bf16", bf16_payload(), **common,
                 source="The bfloat16 cast of PyPI ml_dtypes.")


if __name__ == "__main__":
    main()

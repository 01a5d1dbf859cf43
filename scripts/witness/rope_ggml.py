"""YaRN as ggml computes it -> goldens/tensors/rope-ggml.json.

ggml's own compiled functions, called through ctypes: `ggml_rope_yarn_corr_dims` for the range, and `ggml_rope_ext` in its
NEOX mode on heads (1, …, 1, 0, …, 0), whose rotation is (cos …, sin …), both times the concentration. The libraries are those
that npm's `node-llama-cpp` ships prebuilt:

    npm install --ignore-scripts node-llama-cpp@3.22.1
    python3 scripts/witness/rope_ggml.py --libraries node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
"""

import argparse
import ctypes
import pathlib

import numpy as np

from golden_io import sha256_hex, write_golden

PACKAGE_VERSION = "3.22.1"
GGML_BASE_SHA256 = "6c342c8aeb20cb31a18099d6f79de4de6703814d1cfd5c4d754a8643087e486e"
GGML_CPU_SHA256 = "1174c3c3e0b8722313df561d7ef5ece516a070732cec9b8ddda3667c0b959728"
F32, I32 = 0, 26
NEOX = 2
CONTEXT_BYTES = 1 << 24
POSITIONS = [0, 1, 2, 127, 128, 1000, 4095, 4096, 20_000, 131_071]
GEOMETRIES = {
    "gpt-oss": {"head_dim": 64, "theta": 150000.0, "context": 4096, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0},
    "llama-like": {"head_dim": 128, "theta": 10000.0, "context": 2048, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0},
    # Short contexts turn less than beta_fast times even in the first pair: low would be negative.
    "low-at-the-first-pair": {"head_dim": 64, "theta": 150000.0, "context": 128, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
    # A base so small that beta_slow lies beyond the last value: high is held at head_dim - 1.
    "high-at-the-last-value": {"head_dim": 64, "theta": 10.0, "context": 4096, "factor": 16.0, "beta_fast": 320.0, "beta_slow": 1.0},
}


class InitParams(ctypes.Structure):
    """`struct ggml_init_params`."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Ggml:
    """The few functions of ggml that a rotation needs."""

    def __init__(self, folder):
        base, cpu = folder / "libggml-base.so", folder / "libggml-cpu-x64.so"
        assert sha256_hex(base.read_bytes()) == GGML_BASE_SHA256, base
        assert sha256_hex(cpu.read_bytes()) == GGML_CPU_SHA256, cpu
        self.base = ctypes.CDLL(str(base), mode=ctypes.RTLD_GLOBAL)
        self.cpu = ctypes.CDLL(str(cpu))
        pointer, i64, i32, f32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
        self.sign(self.base.ggml_init, pointer, InitParams)
        self.sign(self.base.ggml_free, None, pointer)
        self.sign(self.base.ggml_new_tensor_1d, pointer, pointer, i32, i64)
        self.sign(self.base.ggml_new_tensor_3d, pointer, pointer, i32, i64, i64, i64)
        self.sign(self.base.ggml_get_data, pointer, pointer)
        self.sign(self.base.ggml_rope_ext, pointer, *[pointer] * 4, i32, i32, i32, *[f32] * 6)
        self.sign(self.base.ggml_rope_yarn_corr_dims, None, i32, i32, f32, f32, f32, ctypes.POINTER(f32))
        self.sign(self.base.ggml_new_graph, pointer, pointer)
        self.sign(self.base.ggml_build_forward_expand, None, pointer, pointer)
        self.sign(self.cpu.ggml_graph_compute_with_ctx, i32, pointer, pointer, i32)
        self.cpu.ggml_cpu_init()

    @staticmethod
    def sign(function, result, *arguments):
        """Say what a function takes and gives."""
        function.restype, function.argtypes = result, list(arguments)

    def range(self, g):
        """First and last pair of the ramp."""
        dims = (ctypes.c_float * 2)()
        self.base.ggml_rope_yarn_corr_dims(
            g["head_dim"], g["context"], g["theta"], g["beta_fast"], g["beta_slow"], dims
        )
        return list(dims)

    def rotated(self, g, positions):
        """`[positions, head_dim]`: cosines, then sines, of every pair."""
        size, count = g["head_dim"], len(positions)
        context = self.base.ggml_init(InitParams(CONTEXT_BYTES, None, False))
        heads = self.base.ggml_new_tensor_3d(context, F32, size, 1, count)
        places = self.base.ggml_new_tensor_1d(context, I32, count)
        row = np.concatenate([np.ones(size // 2), np.zeros(size // 2)]).astype(np.float32)
        self.fill(heads, np.tile(row, count))
        self.fill(places, np.array(positions, dtype=np.int32))
        # attn_factor 1: the operation itself multiplies by 1 + 0.1 ln(factor).
        turned = self.base.ggml_rope_ext(
            context, heads, places, None, size, NEOX, g["context"], g["theta"], 1 / g["factor"], 1.0, 1.0,
            g["beta_fast"], g["beta_slow"],
        )  # fmt: skip
        graph = self.base.ggml_new_graph(context)
        self.base.ggml_build_forward_expand(graph, turned)
        assert self.cpu.ggml_graph_compute_with_ctx(context, graph, 1) == 0
        data = ctypes.string_at(self.base.ggml_get_data(turned), 4 * size * count)
        self.base.ggml_free(context)
        return np.frombuffer(data, dtype=np.float32).reshape(count, size)

    def fill(self, tensor, values):
        """Copy an array's bytes into a tensor."""
        ctypes.memmove(self.base.ggml_get_data(tensor), values.ctypes.data, values.nbytes)


def check(g, low_high, rows):
    """The specification's range for gpt-oss, and angles as its formula has them, to a thousandth at short positions."""
    pairs = np.arange(g["head_dim"] // 2)
    frequency = g["theta"] ** (2 * pairs / g["head_dim"])
    low, high = low_high
    ramp = np.clip((pairs - low) / max(0.001, high - low), 0, 1)
    inverse = ramp / (g["factor"] * frequency) + (1 - ramp) / frequency
    concentration = 1 + 0.1 * np.log(g["factor"])
    for position, row in zip(POSITIONS, rows):
        if position <= 128:
            want = np.concatenate([np.cos(position * inverse), np.sin(position * inverse)]) * concentration
            assert np.allclose(row, want, rtol=0, atol=1e-3), position


def hex_words(row):
    """f32 bit patterns as one string."""
    return " ".join(f"{bits:08x}" for bits in np.ascontiguousarray(row).view(np.uint32))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", type=pathlib.Path, required=True, help="folder of libggml-base.so")
    ggml = Ggml(parser.parse_args().libraries)
    cases = {}
    for name, g in GEOMETRIES.items():
        low_high, rows = ggml.range(g), ggml.rotated(g, POSITIONS)
        check(g, low_high, rows)
        print(name, low_high)
        cases[name] = {**g, "range": low_high, "rows": {str(p): hex_words(row) for p, row in zip(POSITIONS, rows)}}
    assert cases["gpt-oss"]["range"] == [8.0, 18.0]
    write_golden(
        "tensors/rope-ggml",
        cases,
        producer="rope_ggml.py",
        source="ggml's own ggml_rope_ext on its CPU backend, in the libraries prebuilt by npm's node-llama-cpp",
        packages=("numpy",),
        upstream=f"npm @node-llama-cpp/linux-x64 {PACKAGE_VERSION} (llama.cpp v0.5.0), libggml-base.so {GGML_BASE_SHA256}",
        arguments="--libraries node_modules/@node-llama-cpp/linux-x64/bins/linux-x64",
    )


if __name__ == "__main__":
    main()

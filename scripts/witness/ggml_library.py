"""ggml's own reference codecs, compiled from the source package of PyPI `llama-cpp-python` and called through ctypes."""

import ast
import ctypes
import pathlib
import subprocess
import tarfile
import tempfile
import types

import numpy as np

TREE = "vendor/llama.cpp"
PARTS = (f"{TREE}/ggml/src/", f"{TREE}/ggml/include/", f"{TREE}/ggml/CMakeLists.txt", f"{TREE}/conversion/")

# What ggml-quants.c wants of the rest of ggml; and the inline conversions.
SHIM = """
#include <stdlib.h>
#include "ggml-impl.h"
#include "ggml-quants.h"
void ggml_abort(const char * file, int line, const char * fmt, ...) { (void)file; (void)line; (void)fmt; abort(); }
size_t ggml_row_size(enum ggml_type t, int64_t n) {
    switch (t) {
        case GGML_TYPE_Q4_0: return n / QK4_0 * sizeof(block_q4_0);
        case GGML_TYPE_Q5_0: return n / QK5_0 * sizeof(block_q5_0);
        case GGML_TYPE_Q5_1: return n / QK5_1 * sizeof(block_q5_1);
        case GGML_TYPE_Q4_K: return n / QK_K * sizeof(block_q4_K);
        case GGML_TYPE_Q5_K: return n / QK_K * sizeof(block_q5_K);
        case GGML_TYPE_Q6_K: return n / QK_K * sizeof(block_q6_K);
        default: abort();
    }
}
size_t ggml_type_size(enum ggml_type t) { (void)t; abort(); }
const char * ggml_type_name(enum ggml_type t) { (void)t; abort(); }
void witness_f16(const uint16_t * x, float * y, int64_t k) { for (int64_t i = 0; i < k; i++) y[i] = GGML_FP16_TO_FP32(x[i]); }
void witness_to_f16(const float * x, uint16_t * y, int64_t k) { for (int64_t i = 0; i < k; i++) y[i] = GGML_FP32_TO_FP16(x[i]); }
void witness_bf16(const ggml_bf16_t * x, float * y, int64_t k) { for (int64_t i = 0; i < k; i++) y[i] = GGML_BF16_TO_FP32(x[i]); }
void witness_f32(const float * x, float * y, int64_t k) { memcpy(y, x, k * sizeof(float)); }
"""


class Ggml:
    """The compiled library, and the Python converter beside it."""

    def __init__(self, sdist):
        self.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.folder.name)
        with tarfile.open(sdist) as archive:
            top = archive.next().name.split("/")[0]
            wanted = tuple(f"{top}/{part}" for part in PARTS)
            archive.extractall(root, [m for m in archive if m.name.startswith(wanted)], filter="data")
        self.package = top
        self.tree = root / top / TREE
        (root / "shim.c").write_text(SHIM)
        source = self.tree / "ggml"
        # Products of a code and a scale are exact in f32, so that a fused multiply-add would round alike; as the C text says all the same.
        subprocess.run(
            ["gcc", "-O2", "-fPIC", "-shared", "-std=gnu11", "-ffp-contract=off", f"-I{source}/include", f"-I{source}/src",
             str(source / "src/ggml-quants.c"), str(root / "shim.c"), "-o", str(root / "ggml.so"), "-lm"], check=True)
        self.library = ctypes.CDLL(str(root / "ggml.so"))

    def version(self):
        """`ggml MAJOR.MINOR.PATCH` of the tree."""
        lines = (self.tree / "ggml/CMakeLists.txt").read_text().splitlines()
        numbers = [line.split()[1].rstrip(")") for line in lines if line.startswith("set(GGML_VERSION_") and '"' not in line]
        return "ggml " + ".".join(numbers[:3])

    def decode(self, function, data, values):
        """`values` f32 of the packed bytes `data`, by the C function of that name."""
        out = np.empty(values, dtype=np.float32)
        source = np.ascontiguousarray(data)
        call = self.library[function]
        call(ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(values))
        return out

    def encode(self, function, values, size):
        """`size` packed bytes of f32 `values`, by the C function of that name."""
        out = np.zeros(size, dtype=np.uint8)
        source = np.ascontiguousarray(values, dtype=np.float32)
        call = self.library[function]
        call(ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_int64(source.size))
        return out

    def converter_nibbles(self, blocks):
        """`transform_nibble_layout` of llama.cpp's converter, its text unchanged, on `[n, 16]` bytes."""
        text = (self.tree / "conversion/gpt_oss.py").read_text()
        node = next(n for n in ast.walk(ast.parse(text))
                    if isinstance(n, ast.FunctionDef) and n.name == "transform_nibble_layout")
        names = {"torch": types.SimpleNamespace(uint8=np.dtype(np.uint8), stack=stack)}
        exec(compile(ast.Module([node], []), "conversion/gpt_oss.py", "exec"), names)
        return np.asarray(names["transform_nibble_layout"](None, np.asarray(blocks).view(Torchlike)))


def stack(arrays, dim):
    """torch.stack."""
    return np.stack(arrays, axis=dim).view(Torchlike)


class Torchlike(np.ndarray):
    """A numpy array with the two methods of a torch tensor that the converter calls."""

    def chunk(self, count, dim):
        """torch.Tensor.chunk."""
        return np.split(self, count, axis=dim)

    def view(self, *shape):
        """torch.Tensor.view, for shapes; numpy's for types."""
        if len(shape) == 1 and not isinstance(shape[0], (int, tuple)):
            return super().view(*shape)
        return self.reshape(*shape)

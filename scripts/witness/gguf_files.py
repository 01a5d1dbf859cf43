"""Small GGUFs by PyPI `gguf` -> goldens/bytes/gguf-py.json: the files themselves, and what its own reader says of them.

`files` name -> `parts` (hex of each file: one, or all of a split), `metadata` of the first part ([key, type, text of the
value]) and `tensors` ([name, type, dims with the contiguous one first, part, offset in the part, bytes, SHA-256]).
`big-endian` has no index: our reader refuses it.
"""

import pathlib
import tempfile

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter, quants

from golden_io import sha256_hex, write_golden

SEED = 20250805
QUANTISED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "BF16", "TQ2_0")


def values(shape, rng):
    """f32 values of a shape."""
    return rng.standard_normal(shape).astype(np.float32)


def add_metadata(writer):
    """Every value type, arrays of numbers, strings and bools, text that is not ASCII, the edges of the integers."""
    writer.add_uint8("t.u8", 255)
    writer.add_int8("t.i8", -128)
    writer.add_uint16("t.u16", 65535)
    writer.add_int16("t.i16", -32768)
    writer.add_uint32("t.u32", 4294967295)
    writer.add_int32("t.i32", -2147483648)
    writer.add_float32("t.f32", 1e-5)
    writer.add_bool("t.bool", True)
    writer.add_string("t.string", "Ġnaïve 漢字")
    writer.add_uint64("t.u64", 2**64 - 1)
    writer.add_int64("t.i64", -(2**63))
    writer.add_float64("t.f64", 0.1)
    writer.add_array("t.strings", ["<|start|>", "", "Ċ"])
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.5, -1.5])
    writer.add_array("t.bools", [True, False])


def add_tensors(writer, rng):
    """A tensor of each type that the package can quantise to, and raw ones; dimensions from one to four."""
    writer.add_tensor("f32.1d", values(7, rng))
    writer.add_tensor("f16.2d", values((3, 5), rng).astype(np.float16))
    writer.add_tensor("f32.4d", values((2, 1, 3, 4), rng))
    writer.add_tensor("i32.2d", rng.integers(-9, 9, (2, 3), dtype=np.int32))
    writer.add_tensor("f64.1d", values(3, rng).astype(np.float64))
    for name in QUANTISED:
        kind = GGMLQuantizationType[name]
        width = 256 if name.startswith("TQ") else 64
        packed = quants.quantize(values((2, 3, width), rng), kind)
        writer.add_tensor(f"{name.lower()}.experts", packed, raw_dtype=kind)


def write(path, arch="sample", endian=GGUFEndian.LITTLE, alignment=None, metadata=add_metadata, tensors=add_tensors, **split):
    """One file, or a split."""
    writer = GGUFWriter(str(path), arch, endianess=endian, **split)
    if alignment:
        writer.add_custom_alignment(alignment)
    metadata(writer)
    tensors(writer, np.random.default_rng(SEED))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(path.parent.glob(path.stem + "*.gguf"))


def text(field):
    """A metadata value as our `Display` writes it, but for floats, which are bit patterns; an array is a list."""
    value, kind = field.contents(), field.types[-1]

    def one(item):
        if kind == GGUFValueType.FLOAT32:
            return f"{int(np.float32(item).view(np.uint32)):08x}"
        if kind == GGUFValueType.FLOAT64:
            return f"{int(np.float64(item).view(np.uint64)):016x}"
        if kind == GGUFValueType.BOOL:
            return str(bool(item)).lower()
        return str(item)

    return [one(item) for item in value] if isinstance(value, list) else one(value)


def index(parts):
    """What the package's reader says."""
    metadata, tensors = [], []
    for number, part in enumerate(parts):
        reader = GGUFReader(str(part))
        if number == 0:
            for field in reader.fields.values():
                if not field.name.startswith("GGUF."):
                    metadata.append([field.name, "/".join(kind.name for kind in dict.fromkeys(field.types)), text(field)])
        for tensor in reader.tensors:
            data = tensor.data.tobytes()
            assert len(data) == tensor.n_bytes
            dims = [int(dim) for dim in tensor.shape]
            tensors.append([tensor.name, tensor.tensor_type.name, dims, number, int(tensor.data_offset), len(data),
                            sha256_hex(data)])
    return {"metadata": metadata, "tensors": tensors}


def entry(parts, read=True):
    """A file's golden."""
    return {"parts": [part.read_bytes().hex() for part in parts], **(index(parts) if read else {})}


def small(writer, rng):
    """Three small tensors."""
    for name in ("a", "b", "c"):
        writer.add_tensor(f"{name}.weight", values((2, 9), rng))


def few(writer):
    """Little metadata."""
    writer.add_uint32("t.u32", 7)


def payload():
    """Every file."""
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        small_file = {"metadata": few, "tensors": small}
        return {"files": {
            "all-types": entry(write(at / "all.gguf")),
            "alignment-64": entry(write(at / "aligned.gguf", alignment=64, **small_file)),
            "metadata-only": entry(write(at / "empty.gguf", metadata=few, tensors=lambda writer, rng: None)),
            "split": entry(write(at / "split.gguf", split_max_tensors=1, **small_file)),
            "split-small-first": entry(write(at / "first.gguf", split_max_tensors=2, small_first_shard=True, **small_file)),
            "big-endian": entry(write(at / "big.gguf", endian=GGUFEndian.BIG, **small_file), read=False),
        }}


def main():
    """Write the golden."""
    write_golden("bytes/gguf-py", payload(), producer="gguf_files.py", packages=("gguf", "numpy"),
                 source="Files by the GGUFWriter of PyPI gguf, and what its GGUFReader says of them.")


if __name__ == "__main__":
    main()

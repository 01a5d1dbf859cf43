"""A GGUF file of a checkpoint in the original layout, for `scripts/compare-llama` and `scripts/peer/compare-logits`: the
peer's side of a comparison.

    python3.11 -m venv gguf-venv
    gguf-venv/bin/pip install -r scripts/peer/requirements.txt
    gguf-venv/bin/python scripts/peer/gguf_bench.py DIRECTORY FILE.gguf [--dense Q8_0] [--experts MXFP4]

DIRECTORY has config.json and *.safetensors. As in the published files the experts stay MXFP4, moved block by block
without loss; the other matrices become Q8_0 but for the router, which stays F32 with the norms, biases and sinks. Other
types hold the same numbers where they can: BF16 and F32 always do, F16 may not. `--round-dense` takes the dense matrices
through Q8_0 first, so that a file of F32 holds what one of Q8_0 means. The
vocabulary is a stand-in: prompts are token ids. One tensor is in memory at a time; the rest is mapped.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ARCHITECTURE = "gpt-oss"
RMS_NORM_EPSILON = 1e-5
YARN_BETA_SLOW = 1
QUANTIZATION_VERSION = 2
BLOCK = 32
MXFP4_BYTES = 1 + BLOCK // 2
Q8_0_BYTES = 2 + BLOCK
ROWS = 1024
ITEM_TYPES = {"BF16": np.dtype("<u2"), "U8": np.dtype("u1")}
ITEMS = {Type.F32: np.float32, Type.F16: np.float16}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)


class Planned(NamedTuple):
    """A tensor of the file: `shape` in bytes where the type is of blocks, else in elements."""

    name: str
    kind: Type
    shape: tuple
    make: Callable[[], np.ndarray]


def open_tensors(directory):
    """Name -> array mapped from its file; a BF16 tensor is an array of its bits."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        data = np.memmap(path, mode="r", offset=8 + len(header))
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            assert name not in tensors, name
            tensors[name] = data[start:end].view(ITEM_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


# ---- formats --------------------------------------------------------------------------------------------------------


def widen(bits):
    """f32 of BF16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def q8_0(bits):
    """Q8_0 blocks of the rows of a BF16 matrix."""
    chunks = (gguf.quantize(widen(bits[i : i + ROWS]), Type.Q8_0) for i in range(0, len(bits), ROWS))
    out = np.empty((len(bits), bits.shape[1] // BLOCK * Q8_0_BYTES), dtype=np.uint8)
    for start, chunk in zip(range(0, len(bits), ROWS), chunks):
        out[start : start + ROWS] = chunk
    return out


def f16(bits):
    """F16 of BF16 bits."""
    return widen(bits).astype(np.float16)


def through_q8_0(bits):
    """f32 of what Q8_0 blocks of the rows mean."""
    return gguf.dequantize(q8_0(bits), Type.Q8_0).astype(np.float32)


def mxfp4_rows(blocks, scales):
    """GGUF's blocks: the scale, then 16 bytes of which byte j has element j low and j + 16 high.

    In the source byte j has element 2j low and 2j + 1 high.
    """
    low, high = blocks & 15, blocks >> 4
    out = np.empty((*scales.shape, MXFP4_BYTES), dtype=np.uint8)
    out[..., 0] = scales
    half = BLOCK // 4
    out[..., 1::2] = low[..., :half] | low[..., half:] << 4
    out[..., 2::2] = high[..., :half] | high[..., half:] << 4
    return out.reshape(*scales.shape[:-1], -1)


def mxfp4(blocks, scales, rows):
    """The same for the chosen rows of every expert."""
    return np.stack([mxfp4_rows(b[rows], s[rows]) for b, s in zip(blocks, scales)])


def mxfp4_values(blocks, scales, rows):
    """The same rows as f32."""
    codes = np.stack((blocks[:, rows] & 15, blocks[:, rows] >> 4), axis=-1)
    values = np.ldexp(E2M1[codes.reshape(*codes.shape[:-2], BLOCK)], scales[:, rows, :, None].astype(np.int32) - 127)
    return values.reshape(*values.shape[:-2], -1).astype(np.float32)


def self_check():
    """Blocks of every byte and of many scales decode to the same numbers in both layouts."""
    blocks = np.arange(256 * 16, dtype=np.uint32).reshape(256, 1, 16) * 37 % 256
    scales = np.arange(256, dtype=np.uint8).reshape(256, 1) % 250 + 2
    blocks = blocks.astype(np.uint8)
    nibbles = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(256, BLOCK)
    want = np.ldexp(E2M1[nibbles], scales.astype(np.int32) - 127)
    found = gguf.dequantize(mxfp4_rows(blocks, scales), Type.MXFP4)
    assert set(np.unique(blocks)) == set(range(256))
    assert np.array_equal(found, want)
    assert np.array_equal(mxfp4_values(blocks[None], scales[None], slice(None))[0], want)


# ---- file -----------------------------------------------------------------------------------------------------------


class Types(NamedTuple):
    """How matrices are written."""

    dense: Type
    experts: Type
    rounded: bool

    def of_dense(self, bits):
        """Shape and maker of a dense matrix."""
        rows, columns = bits.shape
        values = (lambda: through_q8_0(bits)) if self.rounded else (lambda: widen(bits))
        if self.dense == Type.F32:
            return (rows, columns), values
        assert not self.rounded, "only F32 holds what Q8_0 means"
        if self.dense == Type.BF16:
            return (rows, 2 * columns), lambda: np.ascontiguousarray(bits).view(np.uint8)
        if self.dense == Type.F16:
            return (rows, columns), lambda: f16(bits)
        return (rows, columns // BLOCK * Q8_0_BYTES), lambda: q8_0(bits)

    def of_experts(self, blocks, scales, rows):
        """The same of some rows of every expert."""
        count, columns = blocks[:, rows].shape[1], blocks.shape[2] * BLOCK
        if self.experts == Type.F32:
            return (len(blocks), count, columns), lambda: mxfp4_values(blocks, scales, rows)
        return (len(blocks), count, columns // BLOCK * MXFP4_BYTES), lambda: mxfp4(blocks, scales, rows)


def plan(tensors, config, types):
    """The tensors of the file, in its order."""
    heads, kv_heads, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    q, kv = heads * width, kv_heads * width
    found = []

    def f32(name, bits):
        found.append(Planned(name, Type.F32, bits.shape, lambda: widen(bits)))

    def matrix(name, bits):
        found.append(Planned(name, types.dense, *types.of_dense(bits)))

    def experts(name, source, rows):
        blocks, scales = tensors[f"{source}_weight.blocks"], tensors[f"{source}_weight.scales"]
        found.append(Planned(f"{name}.weight", types.experts, *types.of_experts(blocks, scales, rows)))
        f32(f"{name}.bias", tensors[f"{source}_bias"][:, rows])

    matrix("token_embd.weight", tensors["embedding.weight"])
    for layer in range(config["num_hidden_layers"]):
        to, attention, mlp = f"blk.{layer}", f"block.{layer}.attn", f"block.{layer}.mlp"
        f32(f"{to}.attn_norm.weight", tensors[f"{attention}.norm.scale"])
        weight, bias = tensors[f"{attention}.qkv.weight"], tensors[f"{attention}.qkv.bias"]
        assert len(weight) == len(bias) == q + 2 * kv
        for name, rows in (("q", slice(0, q)), ("k", slice(q, q + kv)), ("v", slice(q + kv, None))):
            matrix(f"{to}.attn_{name}.weight", weight[rows])
            f32(f"{to}.attn_{name}.bias", bias[rows])
        matrix(f"{to}.attn_output.weight", tensors[f"{attention}.out.weight"])
        f32(f"{to}.attn_output.bias", tensors[f"{attention}.out.bias"])
        f32(f"{to}.attn_sinks.weight", tensors[f"{attention}.sinks"])
        f32(f"{to}.post_attention_norm.weight", tensors[f"{mlp}.norm.scale"])
        f32(f"{to}.ffn_gate_inp.weight", tensors[f"{mlp}.gate.weight"])
        f32(f"{to}.ffn_gate_inp.bias", tensors[f"{mlp}.gate.bias"])
        experts(f"{to}.ffn_gate_exps", f"{mlp}.mlp1", slice(0, None, 2))
        experts(f"{to}.ffn_up_exps", f"{mlp}.mlp1", slice(1, None, 2))
        experts(f"{to}.ffn_down_exps", f"{mlp}.mlp2", slice(None))
    f32("output_norm.weight", tensors["norm.scale"])
    matrix("output.weight", tensors["unembedding.weight"])
    return found


def add_stand_in_vocabulary(writer, size):
    """One made-up text for each id and one merge: loaders want a tokenizer, though prompts are ids."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list([f"t{i}" for i in range(size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(size - 1)
    writer.add_eos_token_id(size - 1)


def add_metadata(writer, config):
    """All that a loader of this architecture asks for."""
    heads_and_width = (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"])
    writer.add_type("model")
    writer.add_name("gptoss bench")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_quantization_version(QUANTIZATION_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(int(config["initial_context_length"] * config["rope_scaling_factor"]))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads_and_width[0])
    writer.add_head_count_kv(heads_and_width[1])
    writer.add_key_length(heads_and_width[2])
    writer.add_value_length(heads_and_width[2])
    writer.add_layer_norm_rms_eps(RMS_NORM_EPSILON)
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["experts_per_token"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(config["rope_scaling_factor"]))
    writer.add_rope_scaling_orig_ctx_len(config["initial_context_length"])
    writer.add_rope_scaling_yarn_beta_fast(float(config["rope_ntk_beta"]))
    writer.add_rope_scaling_yarn_beta_slow(float(YARN_BETA_SLOW))
    writer.add_vocab_size(config["vocab_size"])
    add_stand_in_vocabulary(writer, config["vocab_size"])


def write(directory, output, types):
    """Write the whole file."""
    config = json.loads((directory / "config.json").read_text())
    assert config["rope_ntk_alpha"] == YARN_BETA_SLOW, "GGUF would have another beta_slow"
    tensors = open_tensors(directory)
    planned = plan(tensors, config, types)
    writer = gguf.GGUFWriter(output, ARCHITECTURE)
    add_metadata(writer, config)
    for tensor in planned:
        item_type = np.dtype(ITEMS.get(tensor.kind, np.uint8))
        size = math.prod(tensor.shape) * item_type.itemsize
        writer.add_tensor_info(tensor.name, tensor.shape, item_type, size, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in planned:
        data = tensor.make()
        assert data.shape == tensor.shape, (tensor.name, data.shape, tensor.shape)
        writer.write_tensor_data(np.ascontiguousarray(data))
    writer.close()
    print(f"{output}: {len(planned)} tensors, {output.stat().st_size} bytes")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="config.json and *.safetensors, original layout")
    parser.add_argument("output", type=pathlib.Path, help="file to write")
    parser.add_argument("--dense", choices=["F32", "F16", "BF16", "Q8_0"], default="Q8_0", help="type of dense matrices")
    parser.add_argument("--experts", choices=["F32", "MXFP4"], default="MXFP4", help="type of the experts' matrices")
    parser.add_argument("--round-dense", action="store_true", help="dense matrices by way of Q8_0")
    arguments = parser.parse_args()
    self_check()
    types = Types(Type[arguments.dense], Type[arguments.experts], arguments.round_dense)
    write(arguments.directory, arguments.output, types)


if __name__ == "__main__":
    main()

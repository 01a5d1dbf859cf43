"""Synthetic HF checkpoints through llama.cpp's converter -> goldens/bytes/llama-converter.json.

`python3 scripts/witness/llama_converter.py --llama-cpp DIR` runs the unmodified convert_hf_to_gguf.py of DIR (the folder
vendor/llama.cpp of PyPI's llama-cpp-python source package), with the gguf package beside it. Only its vocabulary step is left
out: a synthetic checkpoint has no tokenizer.

`recipes` recipe -> `tensors` name -> `dims` and, for each --outtype, its type and the first 128 bits of the
SHA-256 of its data; and `metadata` of the bf16
file. `tiny` is a whole file in hex, with its index as in gguf-py.json.
"""

import argparse
import json
import pathlib
import runpy
import sys
import tempfile

from fixtures import expected_header, hf_slices
from golden_io import write_golden
from recipe import DEFAULTS, TensorSpec, load_recipe, self_check, tensor_bytes, tensor_specs

OUTTYPES = ("bf16", "f16", "q8_0")
RECIPES = ("T3",)
# Hex digits of a digest: 128 bits, for the store is small.
DIGITS = 32
TINY = {**DEFAULTS, "name": "tiny", "layers": 1, "experts": 4, "hidden": 32, "intermediate": 32, "heads": 1, "kv_heads": 1,
        "vocab": 32}


def hf_config(recipe):
    """config.json of the published HF checkpoint, with the recipe's numbers."""
    kinds = ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(recipe["layers"])]
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "eos_token_id": 200002,
        "experts_per_token": recipe["experts_per_token"],
        "head_dim": recipe["head_dim"],
        "hidden_act": "silu",
        "hidden_size": recipe["hidden"],
        "initial_context_length": recipe["initial_context_length"],
        "intermediate_size": recipe["intermediate"],
        "layer_types": kinds,
        "max_position_embeddings": recipe["initial_context_length"] * recipe["rope_scaling_factor"],
        "model_type": "gpt_oss",
        "num_attention_heads": recipe["heads"],
        "num_experts_per_tok": recipe["experts_per_token"],
        "num_hidden_layers": recipe["layers"],
        "num_key_value_heads": recipe["kv_heads"],
        "num_local_experts": recipe["experts"],
        "pad_token_id": 199999,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": float(recipe["rope_ntk_beta"]),
            "beta_slow": float(recipe["rope_ntk_alpha"]),
            "factor": float(recipe["rope_scaling_factor"]),
            "original_max_position_embeddings": recipe["initial_context_length"],
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": recipe["rope_theta"],
        "sliding_window": recipe["sliding_window"],
        "swiglu_limit": recipe["swiglu_limit"],
        "tie_word_embeddings": False,
        "vocab_size": recipe["vocab"],
    }


def write_hf(recipe, folder):
    """The checkpoint directory."""
    pieces = []
    for spec in tensor_specs(recipe):
        data = tensor_bytes(recipe, spec)
        for name, first, end in hf_slices(recipe, spec):
            rows = (end - first) * spec.shape[0] // spec.byte_size
            pieces.append((TensorSpec(name, spec.dtype, (rows, *spec.shape[1:])), data[first:end]))
    header = expected_header([spec for spec, _ in pieces])
    (folder / "config.json").write_text(json.dumps(hf_config(recipe)))
    (folder / "model.safetensors").write_bytes(header + b"".join(data for _, data in pieces))


def convert(llama_cpp, folder, outtype):
    """Runs the converter; the file it wrote."""
    out = folder / f"{outtype}.gguf"
    script = llama_cpp / "convert_hf_to_gguf.py"
    sys.argv = [str(script), str(folder), "--outtype", outtype, "--outfile", str(out), "--model-name", "synthetic"]
    runpy.run_path(str(script), run_name="__main__")
    return out


def recipe_entry(llama_cpp, recipe, folder, index):
    """Digests of every tensor in every --outtype."""
    write_hf(recipe, folder)
    tensors, metadata = {}, None
    for outtype in OUTTYPES:
        found = index([convert(llama_cpp, folder, outtype)])
        metadata = metadata or found["metadata"]
        for name, kind, dims, _, _, _, digest in found["tensors"]:
            tensors.setdefault(name, {"dims": dims})[outtype] = f"{kind} {digest[:DIGITS]}"
    return {"tensors": tensors, "metadata": metadata}


def main():
    """Convert and write the golden."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-cpp", type=pathlib.Path, required=True)
    llama_cpp = parser.parse_args().llama_cpp
    self_check()
    sys.path[1:1] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    from conversion.gpt_oss import GptOssModel  # only now is it on the path
    from gguf_files import entry, index

    GptOssModel.set_vocab = lambda self: None
    recipes = {}
    for name in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            recipes[name] = recipe_entry(llama_cpp, load_recipe(name), pathlib.Path(folder), index)
    with tempfile.TemporaryDirectory() as folder:
        write_hf(TINY, pathlib.Path(folder))
        tiny = entry([convert(llama_cpp, pathlib.Path(folder), "q8_0")])
    write_golden("bytes/llama-converter", {"recipes": recipes, "tiny": tiny}, producer="llama_converter.py",
                 arguments="--llama-cpp LLAMA_CPP", packages=("numpy", "torch", "transformers"),
                 upstream="vendor/llama.cpp of llama-cpp-python 0.3.36",
                 source="The unmodified converter of llama.cpp, but for its vocabulary step, on synthetic HF checkpoints.")


if __name__ == "__main__":
    main()

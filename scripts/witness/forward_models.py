"""The two published implementations of the forward pass, run on a synthetic checkpoint with taps.

`load_torch` builds the model of PyPI `gpt-oss` 0.0.9 with its own unmodified loader; `load_transformers` builds
`GptOssForCausalLM` from the HF layout, experts dequantised by the converter of transformers itself, eager attention and
eager experts. `run` gives a `Run`: what every layer computed, in the dtype that the model was cast to.

`widened` makes either model compute in f64 throughout: both cast to f32 inside RMSNorm and build their RoPE tables in
f32 whatever the dtype of the weights, so `.double()` alone is not f64. Nothing of their source is changed: while it
holds, the names `torch.float32`, `torch.float` and `Tensor.float` stand for their f64 twins.
"""

import contextlib
import pathlib
import sys
import zipfile
from typing import NamedTuple
from unittest import mock

import numpy as np
import safetensors.torch
import torch

from fixtures import hf_slices
from golden_io import sha256_hex
from recipe import config_text, tensor_bytes, tensor_specs

SOURCES = {
    "gpt_oss/torch/model.py": "319ba3c6e4d827eb3115fe4838942af448376b513c02cea4b6b471bf6c21a346",
    "gpt_oss/torch/weights.py": "960df62a4605522099848a458ef21726f20adf33587e1d97196520bb67ab0957",
}
MODELING_SHA256 = "eb6e2d66fd2a34d3a31219db17da8a62d95b62017beaad93b9fd626b7a26c326"
RMS_NORM_EPSILON = 1e-5


class Run(NamedTuple):
    """One forward pass over n tokens; L layers, D hidden, E experts, k of them chosen, V vocabulary rows."""

    attention_residual: torch.Tensor  # [L, n, D], after the attention's residual add
    router_logits: torch.Tensor  # [L, n, E]
    expert_ids: torch.Tensor  # [L, n, k], largest router logit first
    expert_weights: torch.Tensor  # [L, n, k]
    block_output: torch.Tensor  # [L, n, D], after the experts' residual add
    final_norm: torch.Tensor  # [n, D]
    logits: torch.Tensor  # [n, V]


@contextlib.contextmanager
def widened(active=True):
    """While active, code that asks torch for f32 gets f64."""
    with contextlib.ExitStack() as stack:
        if active:
            stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
            stack.enter_context(mock.patch.object(torch, "float", torch.float64))
            stack.enter_context(mock.patch.object(torch, "float32", torch.float64))
        yield


def unpack_upstream(wheel, folder):
    """Put the two upstream sources into `folder`, their digests checked, and make them importable."""
    with zipfile.ZipFile(wheel) as archive:
        for name, digest in SOURCES.items():
            assert sha256_hex(archive.read(name)) == digest, f"{name} is not the recorded upstream source"
            archive.extract(name, folder)
    sys.path.insert(0, str(folder))


def as_tensor(spec, data, shape):
    """Bytes of (a slice of) a tensor as a torch tensor of its own dtype."""
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    return (flat.view(torch.bfloat16) if spec.dtype == "BF16" else flat).reshape(shape)


def write_original(recipe, folder):
    """An original checkpoint in `folder`; gives the digest of its model.safetensors."""
    folder.mkdir()
    tensors = {spec.name: as_tensor(spec, tensor_bytes(recipe, spec), spec.shape) for spec in tensor_specs(recipe)}
    data = safetensors.torch.save(tensors)
    (folder / "config.json").write_text(config_text(recipe))
    (folder / "model.safetensors").write_bytes(data)
    return sha256_hex(data)


def load_torch(folder):
    """The upstream torch model, as its own loader builds it from an original checkpoint: bf16."""
    from gpt_oss.torch.model import Transformer

    return Transformer.from_checkpoint(str(folder), device="cpu")


def hf_config(recipe):
    """The HF configuration of a recipe (specification section 3)."""
    from transformers import GptOssConfig

    return GptOssConfig(
        num_hidden_layers=recipe["layers"],
        num_local_experts=recipe["experts"],
        num_experts_per_tok=recipe["experts_per_token"],
        vocab_size=recipe["vocab"],
        hidden_size=recipe["hidden"],
        intermediate_size=recipe["intermediate"],
        head_dim=recipe["head_dim"],
        num_attention_heads=recipe["heads"],
        num_key_value_heads=recipe["kv_heads"],
        sliding_window=recipe["sliding_window"],
        swiglu_limit=float(recipe["swiglu_limit"]),
        max_position_embeddings=recipe["initial_context_length"] * recipe["rope_scaling_factor"],
        rms_norm_eps=RMS_NORM_EPSILON,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": float(recipe["rope_theta"]),
            "factor": float(recipe["rope_scaling_factor"]),
            "beta_fast": float(recipe["rope_ntk_beta"]),
            "beta_slow": float(recipe["rope_ntk_alpha"]),
            "truncate": False,
            "original_max_position_embeddings": recipe["initial_context_length"],
        },
        use_cache=False,
        attn_implementation="eager",
        experts_implementation="eager",
    )


def hf_tensors(recipe):
    """Every tensor of the HF layout by name: bf16 and packed u8, as in the published files."""
    tensors = {}
    for spec in tensor_specs(recipe):
        data = tensor_bytes(recipe, spec)
        for name, start, end in hf_slices(recipe, spec):
            tensors[name] = as_tensor(spec, data[start:end], (-1, *spec.shape[1:]))
    return tensors


def dequantised(tensors):
    """Replace each pair of blocks and scales by the dense bf16 weight that transformers makes of it."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    dense = {name: tensor for name, tensor in tensors.items() if not name.endswith(("_blocks", "_scales"))}
    for name in tensors:
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            dense[stem] = convert_moe_packed_tensors(tensors[name], tensors[f"{stem}_scales"])
    return dense


def check_transformers():
    """The modelling source must be the recorded one."""
    from transformers.models.gpt_oss import modeling_gpt_oss

    digest = sha256_hex(pathlib.Path(modeling_gpt_oss.__file__).read_bytes())
    assert digest == MODELING_SHA256, f"modeling_gpt_oss.py has {digest}: not the recorded transformers"


def load_transformers(recipe):
    """`GptOssForCausalLM` with every parameter filled (strictly); f32, in which bf16 values are exact."""
    from transformers import GptOssForCausalLM

    model = GptOssForCausalLM(hf_config(recipe))
    model.load_state_dict(dequantised(hf_tensors(recipe)), strict=True)
    return model.eval()


def widen_rope(model):
    """Rebuild the frequency table of a transformers model; it is made when the model is, not in the pass."""
    with widened():
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def tap(taps, key, value_of):
    """A forward hook that keeps one value of each call, in call order."""

    def hook(_module, _inputs, output):
        taps.setdefault(key, []).append(value_of(output).detach().clone())

    return hook


def torch_hooks(model, taps, k):
    """Hooks on the upstream model. It keeps its choice of experts to itself: the same two operations repeat it."""

    def chosen(gate):
        return torch.topk(gate, k=k, dim=-1, sorted=True)

    hooks = [model.norm.register_forward_hook(tap(taps, "final_norm", lambda x: x))]
    for block in model.block:
        rows = (
            (block.attn, "attention_residual", lambda x: x),
            (block.mlp.gate, "router_logits", lambda x: x),
            (block.mlp.gate, "expert_ids", lambda x: chosen(x).indices),
            (block.mlp.gate, "expert_weights", lambda x: torch.nn.functional.softmax(chosen(x).values, dim=1)),
            (block, "block_output", lambda x: x),
        )
        hooks += [module.register_forward_hook(tap(taps, key, value_of)) for module, key, value_of in rows]
    return hooks


def transformers_hooks(model, taps):
    """Hooks on the transformers model: its router gives (logits, weights, ids); activations have a batch axis."""

    def keep_input(_module, inputs):
        taps.setdefault("attention_residual", []).append(inputs[0][0].detach().clone())

    hooks = [model.model.norm.register_forward_hook(tap(taps, "final_norm", lambda x: x[0]))]
    for layer in model.model.layers:
        hooks.append(layer.post_attention_layernorm.register_forward_pre_hook(keep_input))
        for index, key in enumerate(("router_logits", "expert_weights", "expert_ids")):
            hooks.append(layer.mlp.router.register_forward_hook(tap(taps, key, lambda x, index=index: x[index])))
        hooks.append(layer.register_forward_hook(tap(taps, "block_output", lambda x: x[0])))
    return hooks


@torch.inference_mode()
def run(model, recipe, tokens):
    """One pass over all tokens, in the dtype the model has now."""
    taps = {}
    ids = torch.tensor(tokens, dtype=torch.int64)
    if hasattr(model, "block"):
        hooks = torch_hooks(model, taps, recipe["experts_per_token"])
        logits = model(ids)
    else:
        hooks = transformers_hooks(model, taps)
        logits = model(input_ids=ids[None]).logits[0]
    for hook in hooks:
        hook.remove()
    final_norm = taps.pop("final_norm")[0]
    return Run(**{key: torch.stack(values) for key, values in taps.items()}, final_norm=final_norm, logits=logits)

"""Witnesses of the forward pass -> goldens/logits/.

Runs two published implementations, unmodified, on the synthetic checkpoints and 200 tokens, on the CPU, one thread:

    <fixture>.torch.safetensors         the model of PyPI gpt-oss 0.0.9, in f64 throughout
    T1, T3 .transformers.safetensors    GptOssForCausalLM of PyPI transformers, in f32
    forward.json                        facts: input digests, measured f32 and bf16 noise, distances, smallest margins

goldens/logits/README.md names the tensors. Needs a virtual environment of its own, Python 3.11 or later (transformers
wants a newer safetensors than requirements.txt has):

    python3 -m venv VENV && . VENV/bin/activate
    pip install -r scripts/witness/requirements-forward.txt
    pip download --no-deps --only-binary=:all: --python-version 3.12 gpt-oss==0.0.9
    python3 scripts/witness/forward.py --wheel gpt_oss-0.0.9-py3-none-any.whl

The wheel wants a newer Python for reasons of its own; the two files used of it, checked by digest, do not. A rerun on
another CPU may change the last bits: f64 values by about 1e-14, the facts by a unit in the last place.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np
import safetensors.numpy
import torch

from forward_models import (
    MODELING_SHA256,
    SOURCES,
    Run,
    check_transformers,
    load_torch,
    load_transformers,
    run,
    unpack_upstream,
    widen_rope,
    widened,
    write_original,
)
from golden_io import GOLDENS, write_golden, write_payload
from recipe import load_recipe, self_check
from section10 import LOGITS, Comparison, check_bf16, compare_pass

SAMPLED_IDS = {"T1": 64, "T2": 64, "T3": 64, "small-vocab": 24, "odd-experts": 24, "one-layer": 24, "wide-heads": 24}
IN_TRANSFORMERS = ("T1", "T3")
POSITIONS = 200
PROBED = (0, 1, *range(126, 132), 199)
TOP = 5
EDGE_IDS = 8
TEXT_TOKENS = 199998
MODEL_BIN_ROWS = 200014
PER_LAYER = ("attention_residual", "router_logits", "expert_weights", "block_output")
PACKAGES = ("numpy", "safetensors", "torch", "transformers")
TORCH_UPSTREAM = f"PyPI gpt-oss 0.0.9 (model.py, sha256 {SOURCES['gpt_oss/torch/model.py']})"
TRANSFORMERS_UPSTREAM = f"PyPI transformers 5.23.0 (modeling_gpt_oss.py, sha256 {MODELING_SHA256})"


def prompt(recipe, count):
    """Token i is (7919 i + 13) mod 199998, or mod the vocabulary where that is smaller (specification section 10)."""
    modulus = min(recipe["vocab"], TEXT_TOKENS)
    return [(7919 * i + 13) % modulus for i in range(count)]


def rows_of(recipe):
    """Vocabulary rows that every format keeps: model.bin drops those from 200014 on."""
    return min(recipe["vocab"], MODEL_BIN_ROWS)


def sampled_ids(recipe):
    """The first and the last eight rows, and others evenly spaced between them."""
    rows, middle = rows_of(recipe), SAMPLED_IDS[recipe["name"]] - 2 * EDGE_IDS
    spaced = [EDGE_IDS + (2 * j + 1) * (rows - 2 * EDGE_IDS) // (2 * middle) for j in range(middle)]
    ids = [*range(EDGE_IDS), *spaced, *range(rows - EDGE_IDS, rows)]
    assert ids == sorted(set(ids)), ids
    return ids


def kept(passed, recipe):
    """A pass without the vocabulary rows that model.bin drops."""
    return passed._replace(logits=passed.logits[:, : rows_of(recipe)])


def per_position(passed, truth):
    """Stage -> largest |passed - truth| at each position: [L, n], or [n] after the last layer."""
    distances = {}
    for stage in (*PER_LAYER, "final_norm", "logits"):
        difference = (getattr(passed, stage).double() - getattr(truth, stage)).abs()
        distances[stage] = difference.amax(dim=-1)
    return distances


def rounded(value):
    """Three significant digits: a noise level has no more."""
    return float(f"{value:.3g}")


def largest(distances):
    """Stage -> largest distance over all positions, one for each layer where the stage has layers."""
    facts = {}
    for stage, distance in distances.items():
        facts[stage] = [rounded(x) for x in distance.amax(dim=-1).reshape(-1).tolist()]
    return facts


def choices_changed(passed, truth):
    """At how many (layer, position) the chosen experts, or only their order, are not those of `truth`."""
    order = (passed.expert_ids != truth.expert_ids).any(dim=-1)
    experts = (passed.expert_ids.sort(dim=-1).values != truth.expert_ids.sort(dim=-1).values).any(dim=-1)
    return {"experts": int(experts.sum()), "order_only": int((order & ~experts).sum())}


def router_margin(truth, k):
    """Router logit of the last chosen expert minus that of the first left out, [L, n]; None if none is left out."""
    if truth.router_logits.shape[-1] == k:
        return None
    ordered = truth.router_logits.sort(dim=-1, descending=True).values
    return ordered[..., k - 1] - ordered[..., k]


def sampled(passed, recipe):
    """What a golden keeps of a pass, as numpy arrays."""
    ids, probed = torch.tensor(sampled_ids(recipe)), torch.tensor(PROBED)
    top = torch.topk(passed.logits, TOP, dim=-1)
    tensors = {
        "tokens": torch.tensor(prompt(recipe, POSITIONS), dtype=torch.int32),
        "vocab_ids": ids.int(),
        "positions": probed.int(),
        "logits": passed.logits[:, ids],
        "top_ids": top.indices.int(),
        "top_values": top.values,
        "expert_ids": passed.expert_ids.to(torch.uint8),
        "expert_weights": passed.expert_weights,
        "attention_residual": passed.attention_residual[:, probed],
        "block_output": passed.block_output[:, probed],
    }
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}


class Passes:
    """The passes of one fixture: `truth` is the torch model in f64 throughout, all others are compared with it."""

    def __init__(self, recipe, folder):
        self.recipe, self.tokens = recipe, prompt(recipe, POSITIONS)
        self.digest = write_original(recipe, folder)
        model = load_torch(folder)
        self.bf16 = self.run(model)
        self.f32 = self.run(model.float())
        self.f32_short = kept(run(model, recipe, prompt(recipe, TOP)), recipe)
        self.double = self.run(model.double())
        self.truth = self.run(model, wide=True)
        model = load_transformers(recipe)
        self.transformers_f32 = self.run(model)
        widen_rope(model)
        self.transformers_f64 = self.run(model.double(), wide=True)

    def run(self, model, wide=False):
        """The pass over the whole prompt."""
        with widened(wide):
            passed = run(model, self.recipe, self.tokens)
        assert all(bool(torch.isfinite(getattr(passed, stage)).all()) for stage in Run._fields)
        return kept(passed, self.recipe)

    def others(self):
        """The passes that must choose the experts that `truth` chooses."""
        return {
            "torch_f32": self.f32,
            "torch_double_as_shipped": self.double,
            "transformers_f32": self.transformers_f32,
            "transformers_f64": self.transformers_f64,
        }


def bf16_facts(passes):
    """How far the pass as shipped, in bf16, is from f32: what such a golden could not tell apart."""
    bf16, f32 = passes.bf16.logits.float(), passes.f32.logits
    distance = (bf16 - f32).abs().amax(dim=-1)
    check_bf16(passes.recipe["name"], passes.bf16, float(distance.max()), float(distance[-1]))
    return {
        "choices_changed": choices_changed(passes.bf16, passes.truth),
        "logits": rounded(float(distance.max())),
        "logits_last_position": rounded(float(distance[-1])),
        "same_argmax": int((bf16.argmax(dim=-1) == f32.argmax(dim=-1)).sum()),
    }


def section10_facts(passes, noise):
    """The comparison with the specification's numbers, for the fixtures that it has."""
    comparison, name = Comparison(), passes.recipe["name"]
    worst = {stage: max(levels) for stage, levels in noise.items()}
    for passed in (passes.f32, passes.f32_short):
        if (name, len(passed.logits)) in LOGITS:
            compare_pass(comparison, name, passed, worst)
    return comparison.facts() if comparison.values else None


def facts_of(passes):
    """Everything about a fixture that is a number or a digest, not a tensor."""
    recipe, truth = passes.recipe, passes.truth
    for name, passed in passes.others().items():
        changed = choices_changed(passed, truth)
        assert changed == {"experts": 0, "order_only": 0}, (recipe["name"], name, changed)
    distances = {name: largest(per_position(passed, truth)) for name, passed in passes.others().items()}
    margin = router_margin(truth, recipe["experts_per_token"])
    best = torch.topk(truth.logits, 2, dim=-1).values
    zero = Run(*(torch.zeros(()) for _ in Run._fields))
    return {
        "bf16_from_f32": bf16_facts(passes),
        "distance_from_torch_f64": distances,
        "largest_magnitude": largest(per_position(zero, truth)),
        "model_safetensors_sha256": passes.digest,
        "prompt_modulus": min(recipe["vocab"], TEXT_TOKENS),
        "router_margin_min": None if margin is None else rounded(float(margin.min())),
        "section_10": section10_facts(passes, distances["torch_f32"]),
        "top1_margin_min": rounded(float((best[:, 0] - best[:, 1]).min())),
        "vocab_rows": rows_of(recipe),
    }


def torch_tensors(passes):
    """The f64 pass, the f32 logits of the probed positions, and the f32 noise at every layer and position."""
    recipe = passes.recipe
    tensors = sampled(passes.truth, recipe)
    margin = router_margin(passes.truth, recipe["experts_per_token"])
    if margin is not None:
        tensors["router_margin"] = margin.float().numpy()
    tensors["f32_logits"] = sampled(passes.f32, recipe)["logits"][list(PROBED)]
    for stage, distance in per_position(passes.f32, passes.truth).items():
        tensors[f"f32_noise.{stage}"] = distance.float().numpy()
    return tensors


def write_tensors(name, tensors, *, source, upstream):
    """A golden whose payload is a SafeTensors file without metadata: the same tensors give the same bytes."""
    write_payload(
        f"logits/{name}", ".safetensors", safetensors.numpy.save(tensors),
        producer="forward.py", source=source, packages=PACKAGES, upstream=upstream, arguments="--wheel WHEEL",
    )


def write_fixture(name, folder):
    """The goldens of one fixture; gives its facts."""
    passes = Passes(load_recipe(name), folder)
    recorded = json.loads((GOLDENS / "bytes" / "fixtures.json").read_text())
    assert passes.digest == recorded[name]["original"]["file_sha256"], f"{name}: not the recorded checkpoint"
    facts = facts_of(passes)
    write_tensors(
        f"{name}.torch", torch_tensors(passes), upstream=TORCH_UPSTREAM,
        source="The unmodified upstream torch model, loaded by its own loader from a checkpoint written by the numpy "
        "recipe; in f64 throughout, and its f32 noise; CPU, one thread.",
    )
    if name in IN_TRANSFORMERS:
        write_tensors(
            f"{name}.transformers", sampled(passes.transformers_f32, passes.recipe), upstream=TRANSFORMERS_UPSTREAM,
            source="GptOssForCausalLM of transformers on the HF layout written by the numpy recipe, experts "
            "dequantised by transformers; f32, eager attention and experts; CPU, one thread.",
        )
    return facts


def main():
    """Run both implementations on every fixture and write the goldens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", required=True, help="the gpt-oss 0.0.9 wheel")
    options = parser.parse_args()
    self_check()
    torch.set_num_threads(1)
    check_transformers()
    facts = {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        unpack_upstream(options.wheel, scratch)
        facts["fixtures"] = {name: write_fixture(name, scratch / name) for name in SAMPLED_IDS}
    write_golden(
        "logits/forward", facts, producer="forward.py", packages=PACKAGES,
        source="Distances between passes of the unmodified upstream torch model and of transformers on checkpoints "
        "written by the numpy recipe.",
        upstream=f"{TORCH_UPSTREAM}; {TRANSFORMERS_UPSTREAM}", arguments="--wheel WHEEL",
    )


if __name__ == "__main__":
    main()

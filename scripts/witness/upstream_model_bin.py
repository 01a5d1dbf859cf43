"""Digests of model.bin from the unmodified upstream converter -> goldens/bytes/upstream-model-bin.json.

The converter (PyPI `gpt-oss` 0.0.9, create-local-model.py) is taken from its wheel into a temporary folder and run on
checkpoints that this folder writes. It needs no network: the vocabulary file is given.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

from fixtures import serialize
from golden_io import sha256_hex, write_golden
from prefix import prefix_facts, write_prefix
from recipe import config_text, load_recipe, self_check, tensor_specs

CONVERTER = "gpt_oss/metal/scripts/create-local-model.py"
CONVERTER_SHA256 = "7901e68aa9d061800986f061873db822d39bdd110652e2c218e38fb73f0a38f0"
VOCAB_NAME = "o200k_base.tiktoken"
VOCAB_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
VOCAB_CACHE_NAME = "fb374d419588a4632f3f557e76b4b70aebbca790"  # sha1 of the vocabulary's address: tiktoken's cache name
UPSTREAM = "PyPI gpt-oss 0.0.9 (create-local-model.py, sha256 " + CONVERTER_SHA256 + ")"
RECIPES = ("T1", "T2", "T3", "odd-experts", "one-layer", "wide-heads")
SWEEPS = {"bf16-sweep": "one-layer", "bf16-sweep-T2": "T2"}
SWEEP_SCALES = 241

# Specification section 10.
EXPECTED = {
    "T1": (53_242_880, "e5016ad7aa7662ca1f9d7a4c6e166ee9516874a2246f191a13c2b4990110e223"),
    "T2": (166_379_520, "8402e39063c260a4a13366456ff2e36d3daf7702b6993aa73f557dcfdacc0000"),
    "T3": (53_925_888, "59fa4a2ae4fcefa17b18342bc58704d0c6d090936dc95e2c1a0aefa4caf48833"),
}


class Converter:
    """The upstream script, its vocabulary caches and a scratch folder."""

    def __init__(self, wheel, vocab, scratch):
        self.scratch = pathlib.Path(scratch)
        self.vocab = pathlib.Path(vocab).read_bytes()
        assert sha256_hex(self.vocab) == VOCAB_SHA256
        source = zipfile.ZipFile(wheel).read(CONVERTER)
        assert sha256_hex(source) == CONVERTER_SHA256, "not the recorded upstream script"
        self.script = self.scratch / "create-local-model.py"
        self.script.write_bytes(source)
        for name in (VOCAB_NAME, VOCAB_CACHE_NAME):
            (self.scratch / name).write_bytes(self.vocab)

    def run(self, recipe, overrides=None):
        """Write the checkpoint, convert it, give the size and digest of model.bin; its prefix must be ours."""
        source, output = self.scratch / "original", self.scratch / "model.bin"
        source.mkdir()
        (source / "config.json").write_text(config_text(recipe))
        (source / "model.safetensors").write_bytes(serialize(recipe, overrides))
        folder = str(self.scratch)
        environment = {**os.environ, "TIKTOKEN_ENCODINGS_BASE": folder, "TIKTOKEN_CACHE_DIR": folder}
        command = [sys.executable, str(self.script), "-s", str(source), "-d", str(output)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        shutil.rmtree(source)
        prefix = write_prefix(recipe, self.vocab)
        with output.open("rb") as file:
            assert file.read(len(prefix)) == prefix, recipe["name"]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": output.stat().st_size, "sha256": digest}


def swept_bits(count, step):
    """bf16 patterns (index * step) mod 65536, with 0 in place of NaN."""
    bits = np.arange(count, dtype=np.uint64) * np.uint64(step) % np.uint64(1 << 16)
    return np.where((bits & np.uint64(0x7FFF)) > 0x7F80, np.uint64(0), bits).astype("<u2").tobytes()


def sweep_overrides(recipe):
    """Every bf16 pattern in the QKV of block 0 as far as it has room, and every scale byte that does not wrap."""
    overrides = {}
    for spec in tensor_specs(recipe):
        if spec.name == "block.0.attn.qkv.weight":
            overrides[spec.name] = swept_bits(spec.elements, 1)
        elif spec.name == "block.0.attn.qkv.bias":
            overrides[spec.name] = swept_bits(spec.elements, 257)
        elif spec.name.endswith(".scales"):
            overrides[spec.name] = (np.arange(spec.elements) % SWEEP_SCALES).astype(np.uint8).tobytes()
    return overrides


def collect(converter):
    """Every digest, checked against the specification where it has one."""
    digests = {name: converter.run(load_recipe(name)) for name in RECIPES}
    for name, (size, digest) in EXPECTED.items():
        assert digests[name] == {"bytes": size, "sha256": digest}, (name, digests[name])
    for name, base in SWEEPS.items():
        recipe = load_recipe(base)
        digests[name] = converter.run(recipe, sweep_overrides(recipe))
    return {**digests, "prefix": prefix_facts(converter.vocab)}


def main():
    """Run the converter on every checkpoint and write the golden."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", required=True, help="the gpt-oss 0.0.9 wheel")
    parser.add_argument("--vocab", required=True, help=VOCAB_NAME)
    options = parser.parse_args()
    self_check()
    with tempfile.TemporaryDirectory() as scratch:
        payload = collect(Converter(options.wheel, options.vocab, scratch))
    write_golden(
        "bytes/upstream-model-bin",
        payload,
        producer="upstream_model_bin.py",
        source="The unmodified upstream converter run on checkpoints written by the numpy recipe; "
        "the prefix facts by an independent Python writer.",
        packages=("numpy", "openai-harmony", "safetensors", "tiktoken", "torch"),
        upstream=UPSTREAM,
        arguments="--wheel WHEEL --vocab VOCAB",
    )


if __name__ == "__main__":
    main()

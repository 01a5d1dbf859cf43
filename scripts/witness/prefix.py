"""An independent writer of the fixed prefix of model.bin, from specification sections 1.1 to 1.3, with its check values.

It shares no code with the upstream converter: tokens come from the vocabulary file itself and the regex from its parts.
"""

import base64
import math
import struct
import uuid

from golden_io import sha256_hex
from recipe import load_recipe

NUM_TEXT_TOKENS = 199998
INCLUDED_TOKENS = 200014
ACTIVE_EXPERTS = 4
RMSNORM_EPSILON = 1e-5
WEIGHTS_ALIGNMENT = 16384
HEADER_END, SPECIAL_END, TOKENS_END, PREFIX_END = 148, 404, 1_798_345, 1_802_240

MODEL_UUID = "df52dc86-1789-4ed0-a295-66f10508145b"
LAYOUT_UUID = "229177a8-5775-4268-bfd8-d588b351c56d"
TOKENIZER_UUID = "7401aded-2a95-40cb-b782-9ccebaafe72b"

# Specification section 1.2: the slots that hold a UUID; all others are zero.
SPECIAL_UUIDS = {
    200000: "07d7da55-b346-4cff-8b37-7cefacf8a3e8",
    200002: "f799ff69-1992-43c4-a3d8-d831f475dc75",
    200003: "c0bb14c7-6022-49da-ad08-792d67e8b470",
    200005: "fd3dda11-c8ab-4033-876e-d93deb172c93",
    200006: "55a77c2f-8a01-4c54-8ac2-313bfc7e208d",
    200007: "fcac2f6d-4705-4f6b-b228-642accac7238",
    200008: "16e40431-f47f-4b22-b59b-8b278fc30a54",
    200012: "1220f796-e388-4de5-b487-fe2eb5fe03c0",
    200013: "e15ba702-28c4-4292-ab8f-ffa434709128",
}

# Specification section 5.2: seven alternatives; the first two differ in their counts only.
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORD_START, CONTRACTION = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
REGEX = "|".join(
    (
        f"{WORD_START}{UPPER}*{LOWER}+{CONTRACTION}",
        f"{WORD_START}{UPPER}+{LOWER}*{CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# Specification section 1.1.
FIRST_BYTES_20B = (
    "4750542d4f53532076312e3000000000df52dc8617894ed0a29566f10508145b00000200180000002000000004000000400b0000400b0000"
    "0000e04040000000400000000800000080000000007c12480000003db6a45ebf4617dc3d865cac3facc52737229177a857754268bfd8d588"
    "b351c56d7401aded2a9540cbb7829ccebaafe72b100000003e0d030013010000226e1b00"
)
PREFIX_SHA256 = {
    "full-20b": "053137550592714e7626c5cabc4bfe2d73fea461dee4e925a3f3496cd4428da4",
    "full-120b": "4c82f00102aaeaa673786667edc5ac731842260f2247559918befb43140a8747",
}
UP_TO_SPECIAL_SHA256 = {
    "full-20b": "34d27fcc8c312b67345af2b729798f6bbf522e2aedf94012ad76630194af3551",
    "full-120b": "9ec3649b789c3c8694ba92ba688a8474ffbcfaf8136b0ef121137145f0b03d11",
}
TOKENIZER_SHA256 = "6993ebc2b9d3b236d7c0f048351c7afa234e93602672634645fc6169258e2116"
REGEX_SHA256 = "2d1b8dc11e89af71459b36004f698ab3693f59fd84f63e8ec2b49564ab857420"


def correction_dimension(recipe, rotations):
    """YaRN: the dimension that turns `rotations` times over the initial context, not rounded (section 1.1)."""
    turns = recipe["initial_context_length"] / (rotations * 2 * math.pi)
    return recipe["head_dim"] / 2 * math.log(turns) / math.log(recipe["rope_theta"])


def model_header(recipe):
    """Offsets 0..116 of section 1.1."""
    low = correction_dimension(recipe, recipe["rope_ntk_beta"])
    high = correction_dimension(recipe, recipe["rope_ntk_alpha"])
    factor = recipe["rope_scaling_factor"]
    counts = struct.pack(
        "<6I",
        int(recipe["initial_context_length"] * factor),
        recipe["layers"],
        recipe["experts"],
        ACTIVE_EXPERTS,
        recipe["hidden"],
        recipe["intermediate"],
    )
    attention = struct.pack(
        "<f4I",
        recipe["swiglu_limit"],
        recipe["head_dim"],
        recipe["heads"],
        recipe["kv_heads"],
        recipe["sliding_window"],
    )
    rope = struct.pack(
        "<6f",
        recipe["rope_theta"],
        1.0 / factor,
        -low / (high - low),
        1.0 / (high - low),
        0.1 * math.log(factor) + 1.0,
        RMSNORM_EPSILON,
    )
    magic = b"GPT-OSS v1.0" + bytes(4)
    return magic + uuid.UUID(MODEL_UUID).bytes + counts + attention + rope + uuid.UUID(LAYOUT_UUID).bytes


def read_text_tokens(vocab):
    """Token bytes by rank from the bytes of o200k_base.tiktoken: one "base64 rank" a line."""
    tokens = [None] * NUM_TEXT_TOKENS
    for line in vocab.splitlines():
        text, rank = line.split()
        tokens[int(rank)] = base64.b64decode(text)
    assert None not in tokens
    return tokens


def token_records(vocab):
    """Section 1.3: u16 length and the raw bytes of every text token."""
    return b"".join(struct.pack("<H", len(token)) + token for token in read_text_tokens(vocab))


def special_table():
    """Section 1.2: 16 slots of 16 bytes."""
    slots = (SPECIAL_UUIDS.get(token) for token in range(NUM_TEXT_TOKENS, INCLUDED_TOKENS))
    return b"".join(bytes(16) if slot is None else uuid.UUID(slot).bytes for slot in slots)


def write_prefix(recipe, vocab):
    """Everything before the weights."""
    regex = REGEX.encode("ascii") + b"\0"
    records = token_records(vocab)
    sizes = struct.pack("<4I", INCLUDED_TOKENS - NUM_TEXT_TOKENS, NUM_TEXT_TOKENS, len(regex), len(records))
    prefix = model_header(recipe) + uuid.UUID(TOKENIZER_UUID).bytes + sizes + special_table() + regex + records
    return prefix + bytes(-len(prefix) % WEIGHTS_ALIGNMENT)


def prefix_facts(vocab):
    """The digests of section 1.1, computed here and equal to the specification."""
    assert sha256_hex(REGEX.encode("ascii")) == REGEX_SHA256
    prefixes = {name: write_prefix(load_recipe(name), vocab) for name in PREFIX_SHA256}
    for name, prefix in prefixes.items():
        assert len(prefix) == PREFIX_END
        assert sha256_hex(prefix) == PREFIX_SHA256[name], name
        assert sha256_hex(prefix[:SPECIAL_END]) == UP_TO_SPECIAL_SHA256[name], name
        assert sha256_hex(prefix[SPECIAL_END:TOKENS_END]) == TOKENIZER_SHA256, name
    assert prefixes["full-20b"][:HEADER_END].hex() == FIRST_BYTES_20B
    return {
        "bytes": PREFIX_END,
        "sha256": PREFIX_SHA256,
        "first_148_bytes_20b": FIRST_BYTES_20B,
        "sha256_0_404": UP_TO_SPECIAL_SHA256,
        "sha256_404_1798345": TOKENIZER_SHA256,
        "regex_sha256": REGEX_SHA256,
    }

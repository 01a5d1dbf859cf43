"""Witness of sampling -> goldens/text/sampling.json.

Three independent sources, none of them ours:

    transformers    SequenceBias, RepetitionPenalty, Temperature, TopK, TopP and MinP, unmodified, chained in a
                    LogitsProcessorList in the order of `_get_logits_processor`, on f64 scores
    OpenAI's docs   frequency and presence penalties, three lines of formula, between repetition and temperature
    cryptography    the ChaCha20 key stream (OpenSSL) from which uniform numbers are made

and numpy for the inverse of the cumulative distribution.  Every case is checked to be away from ties and edges, so that
no rounding can decide it, except where its name says "tie" and the source defines the outcome.

    pip install -r scripts/witness/requirements-sampling.txt
    python3 scripts/witness/sampling.py
"""

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from golden_io import write_golden

EDGE = 1e-7  # nothing that decides a case is closer than this
UNIFORMS = (0.0, 0.031, 0.17, 0.42, 0.5, 0.689, 0.83, 0.957, 0.9991)
UNIT = 1 / 256  # logits are multiples of it: exact in f32 and in decimals
WIDE = 2003  # a prime, so that the recipe below gives distinct logits


def sets():
    """Logits by name, f32; `wide` is a recipe: 12 - ((1009 id + 17) mod 2003)^2 / 2^17, written out on both sides."""
    rng = np.random.default_rng(20260101)
    grid = lambda values: np.round(np.asarray(values) / UNIT) * UNIT
    masked = grid(rng.permutation(np.linspace(-5, 7, 64)))
    masked[rng.choice(64, 40, replace=False)] = -np.inf
    tied = grid(rng.permutation(np.repeat(np.linspace(-3, 3, 16), 4)))
    rank = (1009 * np.arange(WIDE) + 17) % WIDE
    made = {
        "mixed": grid(rng.permutation(np.linspace(-4, 4, 64))),
        "steep": grid(rng.permutation(-(np.arange(64.0) ** 1.2) / 3 + 9)),
        "flat": grid(rng.permutation(np.linspace(0.25, 1.0, 64))),
        "negative": grid(rng.permutation(np.linspace(-9, -1, 64))),
        "masked": masked,
        "tied": tied,
        "wide": 12 - rank.astype(np.float64) ** 2 / 2**17,
    }
    assert all((values.astype(np.float32) == values).all() for values in made.values())
    return made


class OpenAiPenalties:
    """The formula of OpenAI's API documentation, not of transformers; `c` counts the output alone."""

    def __init__(self, generated, frequency, presence):
        self.generated, self.frequency, self.presence = generated, frequency, presence

    def __call__(self, input_ids, scores):
        # f64 at once: torch multiplies integers by a float in f32.
        c = torch.tensor(np.bincount(self.generated, minlength=scores.shape[-1]), dtype=torch.float64)
        scores = scores - c * self.frequency - (c > 0).double() * self.presence
        return scores


def processors(params, generated):
    """Bias and penalties, then temperature and filters, as two lists in the order of transformers."""
    before, after = LogitsProcessorList(), LogitsProcessorList()
    if bias := params.get("logit_bias"):
        before.append(SequenceBiasLogitsProcessor([[[int(token)], value] for token, value in bias.items()]))
    if "repetition_penalty" in params:
        before.append(RepetitionPenaltyLogitsProcessor(params["repetition_penalty"]))
    if "frequency_penalty" in params or "presence_penalty" in params:
        alphas = params.get("frequency_penalty", 0.0), params.get("presence_penalty", 0.0)
        before.append(OpenAiPenalties(generated, *alphas))
    if params.get("temperature", 1.0) not in (0.0, 1.0):
        after.append(TemperatureLogitsWarper(params["temperature"]))
    if "top_k" in params:
        after.append(TopKLogitsWarper(params["top_k"]))
    if "top_p" in params:
        after.append(TopPLogitsWarper(params["top_p"]))
    if "min_p" in params:
        after.append(MinPLogitsWarper(params["min_p"]))
    return before, after


def check_edges(name, params, scores, after):
    """Fails where rounding could decide; `scores` are those before temperature and filters."""
    finite = np.sort(scores.numpy()[0][np.isfinite(scores.numpy()[0])])
    assert name == "tied" or "tie" in name.split() or "ties" in name.split() or np.diff(finite).min() > EDGE, name
    for i, step in enumerate(after):
        ids = torch.zeros((1, 0), dtype=torch.long)
        now = np.sort(LogitsProcessorList(after[:i])(ids, scores.clone()).numpy()[0])[::-1]
        p = np.exp(now - now[0])
        p /= p.sum()
        if isinstance(step, TopPLogitsWarper) and 0 < step.top_p < 1:
            assert np.abs(np.cumsum(p) - step.top_p).min() > EDGE, (name, "top_p")
        if isinstance(step, MinPLogitsWarper) and 0 < step.min_p < 1:
            assert np.abs(p / p[0] - step.min_p).min() > EDGE, (name, "min_p")


def inverse_cdf(p, uniforms):
    """Descending probabilities, equal ones by ascending id; the first whose cumulative sum exceeds u of the whole."""
    order = np.lexsort((np.arange(len(p)), -p))
    cumulative = np.cumsum(p[order])
    drawn = []
    for u in uniforms:
        assert u == 0 or np.abs(cumulative / cumulative[-1] - u).min() > EDGE, u
        drawn.append(int(order[np.searchsorted(cumulative, u * cumulative[-1], side="right")]))
    return drawn


def run(name, logits, params, prompt, generated, uniforms=UNIFORMS):
    """One case: the processed distribution and what the uniforms draw from it."""
    before, after = processors(params, generated)
    ids = torch.tensor([prompt + generated], dtype=torch.long)
    scores = before(ids, torch.tensor(logits)[None].clone())
    if params.get("temperature") == 0.0:
        return {"greedy": int(np.argmax(scores.numpy()[0]))}  # numpy: the first of equal ones
    check_edges(name, params, scores, after)
    p = torch.softmax(after(ids, scores), dim=-1).numpy()[0]
    kept = np.flatnonzero(p)
    order = kept[np.lexsort((kept, -p[kept]))]
    shown = order[:24]
    return {
        "kept": len(kept),
        "kept_squares": int((kept + 1) @ (kept + 1)),  # tells which are kept where not all are listed
        "tokens": " ".join(map(str, shown)),
        "probabilities": " ".join(f"{p[token]:.12g}" for token in shown),
        "drawn": " ".join(map(str, inverse_cdf(p, uniforms))),
    }


PROMPT = [5, 9, 5, 33, 60, 9, 5]
OUTPUT = [12, 33, 12, 12, 40, 7]
# The same among the likeliest tokens of `wide`: that of rank r is (r - 17) / 1009 mod 2003.
WIDE_PROMPT, WIDE_OUTPUT = (
    [(rank - 17) * pow(1009, -1, WIDE) % WIDE for rank in ranks] for ranks in ((1, 4, 1, 30), (0, 4, 0, 7, 2, 0))
)


def cases():
    """Name, set, parameters, prompt, output."""
    bias = {"3": 4.5, "17": -100.0, "40": 2.25}
    plain = [
        *[(f"{name}", name, {}) for name in ("mixed", "steep", "flat", "negative", "masked", "wide")],
        *[(f"temperature {t}", "mixed", {"temperature": t}) for t in (0.1, 0.7, 1.5, 2.0)],
        ("temperature 0", "mixed", {"temperature": 0.0}),
        ("temperature 0, tie", "tied", {"temperature": 0.0}),
        ("temperature 0, filters change nothing", "mixed", {"temperature": 0.0, "top_k": 5, "top_p": 0.5, "min_p": 0.5}),
        *[(f"top-k {k}", "mixed", {"top_k": k}) for k in (1, 8, 63, 64, 1000)],
        ("top-k keeps a tie at its end", "tied", {"top_k": 6}),
        ("top-k ends between ties", "tied", {"top_k": 8}),
        ("top-k of masked", "masked", {"top_k": 30}),
        ("top-k at temperature", "steep", {"top_k": 20, "temperature": 1.7}),
        *[(f"top-p {p}", "mixed", {"top_p": p}) for p in (0.0, 0.05, 0.5, 0.9, 0.999)],
        ("top-p keeps the token that crosses", "steep", {"top_p": 0.3}),
        ("top-p after temperature, hot", "steep", {"top_p": 0.8, "temperature": 2.0}),
        ("top-p after temperature, cold", "flat", {"top_p": 0.6, "temperature": 0.1}),
        ("top-p after top-k", "flat", {"top_k": 10, "top_p": 0.75}),
        *[(f"min-p {p}", "mixed", {"min_p": p}) for p in (0.02, 0.3, 1.0)],
        ("min-p after temperature, hot", "mixed", {"min_p": 0.2, "temperature": 1.8}),
        ("min-p after temperature, cold", "mixed", {"min_p": 0.2, "temperature": 0.3}),
        ("min-p cuts before top-p", "steep", {"top_p": 0.99, "min_p": 0.25}),
        ("top-p cuts before min-p", "flat", {"top_p": 0.4, "min_p": 0.25}),
        ("all filters", "mixed", {"temperature": 1.3, "top_k": 30, "top_p": 0.85, "min_p": 0.05}),
        ("wide, top-k", "wide", {"top_k": 50}),
        ("wide, top-p", "wide", {"top_p": 0.35, "temperature": 0.6}),
        ("wide, min-p", "wide", {"min_p": 0.9}),
        ("wide, all filters", "wide", {"temperature": 0.8, "top_k": 400, "top_p": 0.7, "min_p": 0.4}),
    ]
    penalised = [
        ("bias", "mixed", {"logit_bias": bias}),
        ("bias on masked", "masked", {"logit_bias": bias}),
        ("bias before repetition", "mixed", {"logit_bias": {"5": 3.0, "9": -6.5}, "repetition_penalty": 1.6}),
        ("repetition", "mixed", {"repetition_penalty": 1.3}),
        ("repetition of negative logits", "negative", {"repetition_penalty": 1.3}),
        ("repetition that rewards", "mixed", {"repetition_penalty": 0.8}),
        ("repetition on masked", "masked", {"repetition_penalty": 1.5}),
        ("frequency", "mixed", {"frequency_penalty": 0.75}),
        ("frequency that rewards", "mixed", {"frequency_penalty": -1.25}),
        ("presence", "mixed", {"presence_penalty": 1.5}),
        ("presence that rewards", "negative", {"presence_penalty": -2.0}),
        ("frequency and presence", "flat", {"frequency_penalty": 0.5, "presence_penalty": 0.25}),
        ("additive after repetition", "mixed",
         {"repetition_penalty": 1.4, "frequency_penalty": 1.0, "presence_penalty": 0.5}),
        ("penalties before temperature", "mixed", {"frequency_penalty": 0.5, "temperature": 0.5}),
        ("penalties and temperature 0", "mixed",
         {"logit_bias": {"3": 100.0}, "repetition_penalty": 1.2, "presence_penalty": 2.0, "temperature": 0.0}),
        ("everything", "mixed",
         {"logit_bias": bias, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.2,
          "temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.03}),
        ("wide, everything", "wide",
         {"logit_bias": bias, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.2,
          "temperature": 0.9, "top_k": 300, "top_p": 0.5, "min_p": 0.02}),
    ]
    yield from ((name, of, params, [], []) for name, of, params in plain)
    for name, of, params in penalised:
        yield (name, of, params, *((WIDE_PROMPT, WIDE_OUTPUT) if of == "wide" else (PROMPT, OUTPUT)))


def logprobs(logits):
    """log-softmax of the raw logits, and the five most likely tokens."""
    values = torch.log_softmax(torch.tensor(logits), dim=-1).numpy()
    top = np.lexsort((np.arange(len(values)), -values))[:5]
    return {"tokens": " ".join(map(str, top)), "values": " ".join(f"{values[token]:.12g}" for token in top)}


def key_stream(seed, count):
    """64-bit words of ChaCha20 under the key `seed`, little-endian, then zeros; counter and nonce 0."""
    cipher = Cipher(algorithms.ChaCha20(seed.to_bytes(32, "little"), bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), dtype="<u8")


def draws(logits, seed, count=40):
    """What `count` draws of `seed` give from the same logits, nothing filtered."""
    uniforms = (key_stream(seed, count) >> np.uint64(11)) * 2.0**-53
    p = torch.softmax(torch.tensor(logits), dim=-1).numpy()
    return {"seed": str(seed), "tokens": " ".join(map(str, inverse_cdf(p, uniforms.tolist())))}


def text_of(values):
    return " ".join("-inf" if np.isinf(value) else f"{value:.10g}" for value in values)


def main():
    made = sets()
    payload = {
        "sets": {name: text_of(values) for name, values in made.items() if name != "wide"},
        "uniforms": " ".join(map(str, UNIFORMS)),
        "cases": [
            {"name": name, "set": of, "params": params, "prompt": prompt, "output": output,
             **run(name, made[of], params, prompt, output)}
            for name, of, params, prompt, output in cases()
        ],
        "logprobs": {name: logprobs(values) for name, values in made.items()},
        "draws": [draws(made["mixed"], seed) for seed in (0, 1, 7, 2**63 + 5)],
    }
    # Short lists on one line each: histories as text too.
    for case in payload["cases"]:
        for key in ("prompt", "output"):
            case[key] = " ".join(map(str, case[key]))
    assert len({case["name"] for case in payload["cases"]}) == len(payload["cases"]) >= 40
    write_golden(
        "text/sampling",
        payload,
        producer="sampling.py",
        source="Processed distributions by the unmodified logits processors of transformers on f64 scores; additive "
        "penalties by the formula of OpenAI's API documentation; draws by numpy's inverse of the cumulative "
        "distribution; uniform numbers from OpenSSL's ChaCha20.",
        packages=("cryptography", "numpy", "torch", "transformers"),
        upstream="PyPI transformers 5.23.0 (generation/logits_process.py)",
    )
    print(len(payload["cases"]), "cases")


if __name__ == "__main__":
    main()

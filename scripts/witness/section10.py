"""The numbers that specification section 10 prints for the f32 pass of the upstream torch model, and a comparison.

They were printed with up to six decimals on another machine. A sum in f32 depends on the CPU's vector width, so that
the last printed digits are not portable: a value counts as reproduced when it is within the measured f32 noise of its
stage; token and expert ids must be equal.
"""

import torch

HALF_UNITS = {5: 0.5e-5, 6: 0.5e-6}

# (fixture, tokens) -> top ids, their logits (five decimals), logits of the first ids (six decimals).
LOGITS = {
    ("T1", 5): (
        (129671, 29816, 54784, 8880, 21752),
        (5.10112, 4.29512, 4.1316, 4.0798, 4.02541),
        (1.532093, -0.503904, -0.095593, -0.819146),
    ),
    ("T1", 200): (
        (48703, 36608, 156592, 69659, 42747),
        (4.06292, 4.01861, 3.86246, 3.76678, 3.75662),
        (0.295267, 0.322363, -0.527639, -0.648179),
    ),
    ("T2", 200): ((195533, 87519, 190892), (9.10745, 8.29756, 8.00167), ()),
    ("T3", 5): (
        (69596, 70498, 118212, 43163, 163957),
        (4.43923, 4.37561, 4.18456, 4.11224, 4.05308),
        (0.815696, -1.443811, -0.488048, 0.081381),
    ),
    ("T3", 200): (
        (63480, 16671, 2851, 95483, 167473),
        (4.56229, 4.52363, 4.51352, 4.46961, 4.36216),
        (0.327419, 0.474582, 0.33261, 1.290902),
    ),
}
# T3, 200 tokens, last position, per layer: expert ids, weights, first elements of the block output.
T3_LAYERS = (
    ((5, 0, 6, 1), (0.50254, 0.245742, 0.129953, 0.121765), (0.05329, 2.654027, 0.979945, -1.466376)),
    ((0, 6, 5, 2), (0.849887, 0.07003, 0.042282, 0.037801), (-7.438534, 7.212329, 1.639336, -1.236107)),
    ((5, 1, 4, 6), (0.37553, 0.291141, 0.179077, 0.154252), (-5.848638, 9.560445, 1.180415, -1.481177)),
    ((2, 4, 1, 7), (0.836276, 0.095925, 0.035665, 0.032134), (-4.274568, 8.724538, 3.556428, -1.453593)),
)
# Fixture -> largest |bf16 logit - f32 logit| over all positions and at the last one, as printed (three decimals).
BF16_DISTANCE = {"T1": (0.141, 0.042), "T3": (0.401, 0.055)}
# The bf16 pass of T2 at the last position; exact, for bf16 has few digits.
T2_BF16 = {195533: 8.75, 190892: 8.0625, 87519: 8.0625}


class Comparison:
    """Counts printed values and how well a pass reproduces them."""

    def __init__(self):
        self.values, self.exact, self.largest = 0, 0, 0.0

    def compare(self, found, printed, decimals, noise):
        """Each found value must round to the printed one, give or take the noise of its stage."""
        for value, want in zip(found, printed):
            difference = abs(value - want)
            assert difference <= noise + HALF_UNITS[decimals], (value, want, noise)
            self.values += 1
            self.exact += round(value, decimals) == want
            self.largest = max(self.largest, difference)

    def facts(self):
        """For the golden of facts."""
        return {
            "values": self.values,
            "equal_in_every_printed_digit": self.exact,
            "largest_difference": float(f"{self.largest:.3g}"),
        }


def compare_pass(comparison, name, passed, noise):
    """One f32 pass against the numbers printed for it; `noise` maps a stage to its measured f32 noise."""
    count = len(passed.logits)
    ids, top, first = LOGITS[name, count]
    best = torch.topk(passed.logits[-1], len(ids))
    assert tuple(best.indices.tolist()) == ids, (name, count, best)
    comparison.compare(best.values.tolist(), top, 5, noise["logits"])
    comparison.compare(passed.logits[-1].tolist(), first, 6, noise["logits"])
    if (name, count) == ("T3", 200):
        for layer, (experts, weights, block) in enumerate(T3_LAYERS):
            assert tuple(passed.expert_ids[layer, -1].tolist()) == experts, (layer, passed.expert_ids[layer, -1])
            comparison.compare(passed.expert_weights[layer, -1].tolist(), weights, 6, noise["expert_weights"])
            comparison.compare(passed.block_output[layer, -1].tolist(), block, 6, noise["block_output"])


def check_bf16(name, bf16, distance_all, distance_last):
    """The printed facts of the bf16 pass."""
    if name in BF16_DISTANCE:
        assert (round(distance_all, 3), round(distance_last, 3)) == BF16_DISTANCE[name], (distance_all, distance_last)
    if name == "T2":
        best = torch.topk(bf16.logits[-1].float(), len(T2_BF16))
        assert dict(zip(best.indices.tolist(), best.values.tolist())) == T2_BF16, best

"""Data made of a line, a wave and a staircase, each in a region of its own, and their models."""

import numpy as np

import bayes_moe as bm

GATE = "~ z + I(z**2)"
LINE = bm.Expert("y ~ x", name="line")
NET = bm.Expert("y ~ x", name="net", predictor=bm.predictors.MLP((8,)))
STEPS = bm.Expert("y ~ x", name="steps", predictor=bm.predictors.SoftTree(depth=2))
KINDS = ("line", "net", "steps")
NOISE = 0.25


def staircase(x):
    """Four levels between -2 and 2."""
    return np.select([x < -1.0, x < 0.2, x < 1.1], [1.0, -1.5, 0.5], 2.0)


def rows(n, random_seed):
    """Rows, and which part of the truth each comes from: 0 line, 1 wave, 2 staircase."""
    rng = np.random.default_rng(random_seed)
    z, x = rng.uniform(-3, 3, n), rng.uniform(-2, 2, n)
    logits = np.stack([-3.0 * (z + 1), np.zeros(n), 3.0 * (z - 1)])
    part = (logits + rng.gumbel(size=logits.shape)).argmax(axis=0)
    means = np.stack([1.5 - 1.0 * x, 1.5 * np.sin(2.5 * x), staircase(x)])
    y = means[part, np.arange(n)] + NOISE * rng.standard_normal(n)
    return {"x": x, "z": z, "y": y}, part


def specs():
    """The model of all three kinds, and those of three experts of one kind."""
    gate = bm.gates.Softmax(GATE)
    mixed = {"mixed": bm.MixtureOfExperts(gate=gate, experts=[LINE, NET, STEPS])}
    one = {
        name: bm.MixtureOfExperts(gate=gate, experts=[expert.kind] * 3)
        for name, expert in (("line", LINE), ("net", NET), ("steps", STEPS))
    }
    return mixed | one

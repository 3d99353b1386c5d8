"""Gibbs draws of translation tables against sums over all alignments, and coverage."""

import itertools

import numpy as np
import pytest
from scipy.special import gammaln

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.text.cooccurrence import Shapes
from bayes_moe.text.position_gates import STRENGTH_SD, DiagonalGate, TableGate
from tests.support.parallel_texts import NLTK

ALPHA = 0.5


def exact_means(source, target, columns):
    """Posterior means of the table under model 1, by a sum over all alignments of the text."""
    words = [([0, *s], t) for s, ts in zip(source, target, strict=True) for t in ts]
    weights, means = [], []
    for which in itertools.product(*(range(len(sources)) for sources, _ in words)):
        counts = np.zeros((1 + max(map(max, source)), columns))
        for i, (sources, t) in zip(which, words, strict=True):
            counts[sources[i], t] += 1
        totals = counts.sum(axis=1, keepdims=True) + columns * ALPHA
        weights.append(gammaln(counts + ALPHA).sum() - gammaln(totals).sum())
        means.append((counts + ALPHA) / totals)
    shares = np.exp(np.array(weights) - np.logaddexp.reduce(weights))
    return np.tensordot(shares, np.array(means), 1)


def test_means_are_those_of_all_alignments():
    fit = bm.text.alignment(["a b", "b", "a b"], ["x y", "y", "z x"], concentration=ALPHA)
    exact = exact_means([[1, 2], [2], [1, 2]], [[0, 1], [1], [2, 0]], 3)
    table = fit.sampled_table([None, "a", "b"], draws=1200, tune=50, random_seed=1)
    for (source, target), line in table.iterrows():
        wanted = exact[["NULL", "a", "b"].index(source), "xyz".index(target)]
        assert line["probability"] == pytest.approx(wanted, abs=0.04)
        assert line["lower"] < line["probability"] < line["upper"]
        assert line["half_difference"] < 0.08


def test_the_seed_decides():
    fit = bm.text.alignment(NLTK["source"], NLTK["target"], "diagonal", null_probability=0.1)
    first, same, other = (
        fit.sampled_table(["the"], draws=5, tune=0, random_seed=seed) for seed in (1, 1, 2)
    )
    assert first.equals(same)
    assert not first.equals(other)


def test_gates_are_drawn_given_positions():
    shapes = Shapes(np.array([3, 4]), np.array([3, 4]))
    counts = 5 * DiagonalGate(0.25, False, 4.0).weights(shapes)
    rng = np.random.default_rng(0)
    gate, strengths, nulls = DiagonalGate(0.1, False, 0.0), [], []
    for _ in range(300):
        gate = gate.draw(shapes, counts, rng)
        strengths.append(gate.strength)
        nulls.append(gate.null)
    grid = np.linspace(-5, 20, 2001)
    used = shapes.coordinates()[0] > 0
    logs = np.array(
        [counts[used] @ np.log(DiagonalGate(0.0, False, s).weights(shapes)[used]) for s in grid]
    )
    logs -= 0.5 * (grid / STRENGTH_SD) ** 2
    density = np.exp(logs - logs.max())
    mean = (grid * density).sum() / density.sum()
    sd = np.sqrt(((grid - mean) ** 2 * density).sum() / density.sum())
    assert np.mean(strengths) == pytest.approx(mean, abs=4 * sd / 14)
    assert np.std(strengths) == pytest.approx(sd, rel=0.2)
    of = counts.sum()
    assert np.mean(nulls) == pytest.approx((1 + 0.25 * of) / (2 + of), abs=0.015)
    rows = np.add.reduceat(
        TableGate.start(shapes, 0.2, 1.0).draw(shapes, counts, rng).values, shapes.row_starts
    )
    np.testing.assert_allclose(rows, 1)


def test_bad_questions_are_named():
    fit = bm.text.alignment(["a"], ["x"])
    for words, message in (("a", "must be a list"), ([], "at least one"), (["a", "a"], "once")):
        with pytest.raises(SpecError, match=message):
            fit.sampled_table(words)
    with pytest.raises(SpecError, match="no word 'b'"):
        fit.sampled_table(["b"])
    with pytest.raises(SpecError, match="`draws`"):
        fit.sampled_table(["a"], draws=1)


def simulated(pairs, words, rng, strength=8.0, null=0.1):
    """Text and table drawn from the diagonal model."""
    table = rng.dirichlet(np.full(words, 0.1), words + 1)
    source, target = [], []
    for _ in range(pairs):
        length = rng.integers(4, 10)
        ids, made = rng.integers(1, words + 1, length), []
        for j in range(1, length + 1):
            tilt = np.exp(-strength * np.abs(np.arange(1, length + 1) - j) / length)
            at = ids[rng.choice(length, p=tilt / tilt.sum())]
            made.append(rng.choice(words, p=table[0 if rng.random() < null else at]))
        source.append([f"s{i}" for i in ids])
        target.append([f"t{i}" for i in made])
    return source, target, table


@pytest.mark.slow
def test_intervals_of_draws_cover():
    """Those of draws have their content, those of the variational posterior less."""
    inside = {"drawn": [], "variational": []}
    for seed in range(6):
        source, target, true = simulated(300, 20, np.random.default_rng(seed))
        fit = bm.text.alignment(source, target, "diagonal", concentration=0.1)
        names = [f"s{k}" for k in range(1, 21)]
        drawn = fit.sampled_table(names, 20, ci_prob=0.9, random_seed=seed)
        for (s, t), line in drawn.iterrows():
            value = true[int(s[1:]), int(t[1:])]
            inside["drawn"].append(line["lower"] <= value <= line["upper"])
        for name in names:
            for t, line in fit.translation_table(name, None, ci_prob=0.9).iterrows():
                value = true[int(name[1:]), int(t[1:])]
                inside["variational"].append(line["lower"] <= value <= line["upper"])
    drawn, variational = (np.mean(inside[name]) for name in ("drawn", "variational"))
    assert 0.86 < drawn < 0.94
    assert 0.65 < variational < drawn

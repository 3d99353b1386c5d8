"""EM of word alignment against nltk, and against sums over all alignments."""

import itertools

import numpy as np
import pytest
from scipy.special import gammaln

import bayes_moe.text.alignment_em as em
from bayes_moe.text.alignment_em import Cells, Settings, expected_counts, run
from bayes_moe.text.parallel_text import ParallelText
from bayes_moe.text.position_gates import DiagonalGate, TableGate, UniformGate
from tests.support.parallel_texts import NLTK, planted

SOURCE, TARGET = ["a b", "b", "a c b"], ["x y", "y y", "z x"]


def cells_of(source, target):
    text = ParallelText.read(source, target)
    return text, Cells.of(text)


def dense(cells, values):
    """Table (source, target) of word pairs."""
    table = np.zeros((len(cells.pairs.starts) - 1, cells.pairs.columns))
    table[cells.pairs.source, cells.pairs.target] = values
    return table


@pytest.mark.parametrize(("model", "start"), [("ibm1", 0), ("ibm2", 10)])
def test_tables_are_nltks(model, start):
    text, cells = cells_of(NLTK["source"], NLTK["target"])
    gate = UniformGate(None) if model == "ibm1" else TableGate.start(cells.shapes, None, 1.0)
    found = run(cells, gate, Settings(1.0, False, start, 5, -1.0))
    table = dense(cells, found.table.mean()[0])
    for target, source, probability in NLTK[model]["table"]:
        row = 0 if source is None else text.source.number(source) + 1
        assert table[row, text.target.number(target)] == pytest.approx(probability, abs=1e-11)
    shapes = [*zip(cells.shapes.source.tolist(), cells.shapes.target.tolist(), strict=True)]
    positions = found.gate.weights(cells.shapes)
    for i, j, length, of, probability in NLTK[model].get("positions", []):
        start = cells.shapes.starts[shapes.index((length, of))]
        value = positions[start + (j - 1) * (length + 1) + i]
        assert value == pytest.approx(probability, abs=1e-11)


def test_counts_are_sums_over_all_alignments(monkeypatch):
    text, cells = cells_of(SOURCE, TARGET)
    monkeypatch.setattr(em, "CHUNK", 7)  # a chunk ends within pairs of a shape
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 1, cells.pairs.size)
    gate = DiagonalGate(0.2, False, 1.7)
    found = expected_counts(cells, weights, gate.weights(cells.shapes))
    table, counts, total = dense(cells, weights), 0.0, 0.0
    for source, target in zip(text.pairs.source, text.pairs.target, strict=True):
        length, of = len(source), len(target)
        words = [0, *source]
        chances, each = [], []
        for which in itertools.product(range(length + 1), repeat=of):
            chance, made = 1.0, np.zeros_like(table)
            for j, i in enumerate(which):
                tilt = np.exp(-1.7 * np.abs(np.arange(1, length + 1) / length - (j + 1) / of))
                place = 0.2 if i == 0 else 0.8 * tilt[i - 1] / tilt.sum()
                chance *= place * table[words[i], target[j]]
                made[words[i], target[j]] += 1
            chances.append(chance)
            each.append(made)
        total += np.log(np.sum(chances))
        counts = counts + np.tensordot(np.array(chances) / np.sum(chances), np.array(each), 1)
    assert found.log_likelihood == pytest.approx(total, abs=1e-12)
    np.testing.assert_allclose(dense(cells, found.pairs), counts, atol=1e-12)
    assert found.positions.sum() == pytest.approx(cells.tokens)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("null", [None, 0.1, 0.0])
@pytest.mark.parametrize("model", ["ibm1", "ibm2", "diagonal"])
def test_the_objective_never_falls(model, null, variational):
    _, cells = cells_of(*planted(40, 12)[:2])
    gate = {
        "ibm1": UniformGate(null),
        "ibm2": TableGate.start(cells.shapes, null, 1.3),
        "diagonal": DiagonalGate(0.1 if null is None else null, null is not None),
    }[model]
    alpha = 0.05 if variational else 1.2
    found = run(cells, gate, Settings(alpha, variational, 3, 25, -1.0))
    assert np.isfinite(found.trace).all()
    assert np.diff(found.trace).min() > -1e-9
    if null == 0.0:
        assert found.table.counts_by_source[0] == 0


def test_em_ends_at_a_mode_of_the_posterior():
    _, cells = cells_of(SOURCE, TARGET)
    found = run(cells, UniformGate(None), Settings(1.5, False, 0, 400, -1.0))
    values, rest = found.table.mean()
    full = dense(cells, values)
    full += (full == 0) * rest[:-1, None]
    np.testing.assert_allclose(full.sum(axis=1), 1)

    def log_posterior(table):
        in_cells = table[cells.pairs.source, cells.pairs.target]
        expected = expected_counts(cells, in_cells, UniformGate(None).weights(cells.shapes))
        return expected.log_likelihood + 0.5 * np.log(table).sum()

    best = log_posterior(full)
    assert found.trace[-1] == pytest.approx(best)
    rng = np.random.default_rng(1)
    for _ in range(50):
        other = full * np.exp(rng.normal(0, 0.03, full.shape))
        assert log_posterior(other / other.sum(axis=1, keepdims=True)) < best


def evidence(text, alpha, columns):
    """Log marginal likelihood under model 1: a sum over all alignments of the text."""
    words = [
        ([0, *source], target)
        for source, target in zip(text.pairs.source, text.pairs.target, strict=True)
        for target in target
    ]
    terms = []
    for which in itertools.product(*(range(len(sources)) for sources, _ in words)):
        counts = np.zeros((text.source.size + 1, columns))
        chance = 0.0
        for i, (sources, target) in zip(which, words, strict=True):
            counts[sources[i], target] += 1
            chance -= np.log(len(sources))
        totals = counts.sum(axis=1)
        chance += (gammaln(columns * alpha) - gammaln(totals + columns * alpha)).sum()
        terms.append(chance + (gammaln(counts + alpha) - gammaln(alpha)).sum())
    return np.logaddexp.reduce(terms)


def test_the_bound_is_below_the_evidence():
    text, cells = cells_of(SOURCE, TARGET)
    found = run(cells, UniformGate(None), Settings(0.5, True, 0, 200, -1.0))
    exact = evidence(text, 0.5, cells.pairs.columns)
    assert exact - 3 < found.trace[-1] < exact


def test_the_bound_is_the_evidence_where_alignments_are_known():
    _, cells = cells_of(["a", "a", "b", "a"], ["x", "y", "x", "x"])
    found = run(cells, UniformGate(0.0), Settings(0.3, True, 0, 3, -1.0))
    counts = np.array([[2, 1], [1, 0]])
    exact = (gammaln(0.6) - gammaln(counts.sum(axis=1) + 0.6)).sum()
    exact += (gammaln(counts + 0.3) - gammaln(0.3)).sum()
    assert found.trace[-1] == pytest.approx(exact, abs=1e-12)
    np.testing.assert_allclose(dense(cells, found.table.mean()[0])[1], [2.3 / 3.6, 1.3 / 3.6])

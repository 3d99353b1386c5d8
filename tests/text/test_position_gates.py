"""Gates over source positions: probabilities, and their M-steps."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bayes_moe.text.cooccurrence import Shapes
from bayes_moe.text.position_gates import STRENGTH_SD, DiagonalGate, TableGate, UniformGate

SHAPES = Shapes(np.array([1, 3, 4]), np.array([2, 2, 5]))


def rows(values):
    return np.add.reduceat(values, SHAPES.row_starts)


@pytest.mark.parametrize("null", [None, 0.0, 0.3])
def test_rows_sum_to_one_and_null_is_first(null):
    counts = np.random.default_rng(0).uniform(1, 2, SHAPES.starts[-1])
    gates = [UniformGate(null), TableGate.start(SHAPES, null, 1.0)]
    if null is not None:
        gates.append(DiagonalGate(null, True, 2.0))
    for gate in gates:
        for state in (gate, gate.step(SHAPES, counts)):
            values = state.weights(SHAPES)
            np.testing.assert_allclose(rows(values), 1)
            if null is not None:
                np.testing.assert_allclose(values[SHAPES.row_starts], null)


def test_a_table_is_uniform_for_lengths_that_it_lacks():
    counts = np.random.default_rng(0).uniform(1, 2, SHAPES.starts[-1])
    gate = TableGate.start(SHAPES, None, 1.0).step(SHAPES, counts)
    other = Shapes(np.array([3, 2]), np.array([2, 2]))
    values = gate.weights(other)
    np.testing.assert_array_equal(values[:8], gate.weights(SHAPES)[4:12])
    np.testing.assert_allclose(values[8:], 1 / 3)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_strength_is_the_mode(sign):
    true = DiagonalGate(0.2, False, sign * 6.0)
    counts = 50 * true.weights(SHAPES)
    found = DiagonalGate(0.1, False).step(SHAPES, counts)

    def loss(strength):
        values = DiagonalGate(0.2, False, strength).weights(SHAPES)
        return -(counts @ np.log(values)) + 0.5 * (strength / STRENGTH_SD) ** 2

    best = minimize_scalar(loss, bounds=(-30, 30), method="bounded", options={"xatol": 1e-10})
    assert found.strength == pytest.approx(best.x, abs=1e-5)
    assert found.null == pytest.approx(0.2)
    assert DiagonalGate(0.1, True).step(SHAPES, counts).null == 0.1


def test_the_strength_of_a_text_on_the_diagonal_is_finite():
    i, j, _, _ = SHAPES.coordinates()
    found = DiagonalGate(0.1, False).step(SHAPES, np.where(i == np.minimum(j, 4), 1e4, 0.0))
    assert np.isfinite(found.strength)

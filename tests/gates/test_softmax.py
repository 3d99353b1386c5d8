"""The softmax gate against logistic regression."""

import numpy as np

from bayes_moe.core import registry
from bayes_moe.data.matrix import Matrix


def test_two_experts_under_a_softmax_gate_are_a_logistic_regression():
    gate = registry.resolve("gate", "softmax")("~ x")
    x = np.linspace(-2, 2, 9)
    matrix = Matrix(("Intercept", "x"), np.column_stack([np.ones(9), x]), np.zeros(2), np.ones(2))
    draws = {"gate_coef": np.array([[[-0.2, 0.7], [0.2, -0.7]]])}
    weights = np.exp(gate.structure(2).evaluate(draws, {"gate": matrix}))[0, 0]
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(0.4 - 1.4 * x)), rtol=1e-12)

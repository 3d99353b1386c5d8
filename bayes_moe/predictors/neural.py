"""Neural network: ``eta = coef_0 + coef h``, with ``h = a(W a(... W_0 z))`` common to all experts.

``z`` are the standardised features, the formula's intercept among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe import names
from bayes_moe.arrays import Arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError, unknown
from bayes_moe.formulas import INTERCEPT
from bayes_moe.predictors.expansion import Expansion, basis_dim, check_count
from bayes_moe.priors import Prior, Standard


def _tanh(x: Any, xp: Arrays) -> Any:
    return 2.0 * xp.exp(-xp.softplus(-2.0 * x)) - 1.0


def _softplus(x: Any, xp: Arrays) -> Any:
    return xp.softplus(x)


def _relu(x: Any, xp: Arrays) -> Any:
    return xp.where(x > 0, x, 0.0)


ACTIVATIONS: dict[str, Callable[[Any, Arrays], Any]] = {
    "tanh": _tanh,
    "softplus": _softplus,
    "relu": _relu,
}
START = 1.5
"""Spread of the weights at which climbs begin, in units of the prior's: units that differ."""


@dataclass(frozen=True)
class MLP(Expansion):
    """Multilayer perceptron.

    Weights of a hidden layer ``gate_hidden0 (gate_unit0, gate_term)``, ``gate_hidden1 (gate_unit1,
    gate_input1)``, ... are normal with standard deviation ``1 / sqrt(inputs)``; those of the output
    ``gate_coef (expert, gate_basis)`` have the standard deviation of a linear predictor's slopes
    divided by ``sqrt(units)``, and the intercept its own. Weights refer to standardised features.
    Without hidden layers the predictor is linear.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    activation : {"tanh", "softplus", "relu"}
        What a unit makes of the sum of its inputs.

    Notes
    -----
    Units of a layer may trade places, and ``tanh`` units change sign, without any change of the
    density: chains agree about predictions, and need not about weights.

    References
    ----------
    Neal, R. M. (1996). Bayesian learning for neural networks. Springer.
    """

    hidden: tuple[int, ...] = (16,)
    activation: str = "tanh"

    kind: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple | list):
            raise SpecError(f"`hidden` must be a sequence of whole numbers; it is {self.hidden!r}.")
        for units in self.hidden:
            check_count("hidden", units, 1)
        object.__setattr__(self, "hidden", tuple(map(int, self.hidden)))
        if self.activation not in ACTIVATIONS:
            raise SpecError(unknown("activation", self.activation, ACTIVATIONS))

    def labels(self, matrix: Matrix) -> list[str]:
        return _inputs(self.hidden[-1]) if self.hidden else list(matrix.terms)

    def features(self, matrix: Matrix) -> np.ndarray:
        return matrix.standardised

    def spread(
        self, stem: str, own: Mapping[str, Any], units: Standard, matrix: Matrix, xp: Arrays
    ) -> np.ndarray:
        labels = self.labels(matrix)
        slopes = max(1, len(labels) - 1) if self.hidden else 1
        intercept = np.array([label == INTERCEPT for label in labels])
        found: np.ndarray = np.where(intercept, units.intercept, units.slope / np.sqrt(slopes))
        return found

    def eta(self, stem: str, coef: Any, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        if not self.hidden:
            return super().eta(stem, coef, own, features, xp)
        act = ACTIVATIONS[self.activation]
        units = act(xp.matmul(own[_weights(stem, 0)], features.T), xp)  # (..., unit, obs)
        for layer in range(1, len(self.hidden)):
            weights = own[_weights(stem, layer)]
            units = act(xp.matmul(weights[..., 1:], units) + weights[..., 0, None], xp)
        return xp.matmul(coef[..., 1:], units) + coef[..., 0, None]

    def own_priors(
        self, stem: str, role: str, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        return {
            _weights(stem, layer): Prior("Normal", mu=0.0, sigma=float(inputs**-0.5))
            for layer, (_, inputs) in enumerate(self._sizes(matrix))
        }

    def own_dims(self, stem: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for layer in range(len(self.hidden)):
            inputs = names.term(stem) if layer == 0 else f"{stem}_input{layer}"
            found[_weights(stem, layer)] = (f"{stem}_unit{layer}", inputs)
        return found

    def coords(self, stem: str, matrix: Matrix) -> dict[str, list[Any]]:
        found = super().coords(stem, matrix) | {names.term(stem): list(matrix.terms)}
        for layer, units in enumerate(self.hidden):
            found[f"{stem}_unit{layer}"] = list(range(units))
            if layer:
                found[f"{stem}_input{layer}"] = _inputs(self.hidden[layer - 1])
        return found

    def basis_dim(self, stem: str) -> str:
        return basis_dim(stem) if self.hidden else names.term(stem)

    def usual(self, stem: str, matrix: Matrix, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            _weights(stem, layer): START * rng.standard_normal(size) / np.sqrt(size[1])
            for layer, size in enumerate(self._sizes(matrix))
        }

    def free(self, stem: str, rows: int, matrix: Matrix, zero_sum: bool) -> int:
        own = sum(units * inputs for units, inputs in self._sizes(matrix))
        return own + super().free(stem, rows, matrix, zero_sum)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "hidden": list(self.hidden), "activation": self.activation}

    def _sizes(self, matrix: Matrix) -> list[tuple[int, int]]:
        """Units and inputs of each hidden layer."""
        inputs = [len(matrix.terms), *(units + 1 for units in self.hidden)]
        return list(zip(self.hidden, inputs, strict=False))


def _inputs(units: int) -> list[str]:
    """Names of a layer's units for the next one."""
    return [INTERCEPT, *(str(j) for j in range(units))]


def _weights(stem: str, layer: int) -> str:
    return f"{stem}_hidden{layer}"

"""Neural network: ``eta = coef_0 + coef h``, with ``h = a(W a(... W_0 z))``.

``z`` are the standardised features, the formula's intercept among them. Hidden layers are one for
each expert, one for all outputs of a gate, or, with a trunk's name, one for every predictor of the
model that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis, turned
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

ACTIVATIONS: dict[str, Callable[[Any, Arrays], Any]] = {
    "tanh": lambda x, xp: xp.tanh(x),
    "softplus": lambda x, xp: xp.softplus(x),
    "relu": lambda x, xp: xp.where(x > 0, x, 0.0),
}
SCALES = ("learned", "fixed")
MOST_LAYERS, MOST_UNITS = 20, 10_000

START = 1.5
"""Scale of a layer's initial weights."""


@dataclass(frozen=True)
class MLP(Basis):
    r"""Multilayer perceptron.

    Where the predictor is that of ``mu``: weights of hidden layer 0, ``mu_hidden0 (mu_unit0,
    mu_term)``, of layer 1, ``mu_hidden1 (mu_unit1, mu_input1)``, ... are normal with standard
    deviation ``mu_decay[layer] / sqrt(inputs)``; those of the output, ``mu_coef (expert,
    mu_basis)``, have the standard deviation of a linear predictor's slopes divided by
    ``sqrt(units)``, and the intercept its own. Weights refer to standardised features. Experts have
    hidden layers of their own, ``mu_hidden0 (expert, mu_unit0, mu_term)``; outputs of a gate share
    them. Without hidden layers the predictor is linear.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    activation : {"tanh", "softplus", "relu"}
        Activation function of the units.
    scale : {"learned", "fixed"}
        Whether the scale of each hidden layer's weights, the strength of weight decay, is learned,
        with the prior ``Gamma(2, 1)`` on ``mu_decay``, or is 1.
    trunk : str, optional
        Name of hidden layers that several predictors of the model share, as those of a mixture
        density network do: their variables are ``<trunk>_hidden0``, ... Predictors of one trunk
        need the same formula, hidden layers and activation.

    Notes
    -----
    The density does not change when units of a layer are permuted, or ``tanh`` units change sign:
    chains agree about predictions, and need not about weights.

    References
    ----------
    Neal, R. M. (1996). Bayesian learning for neural networks. Springer.
    """

    hidden: tuple[int, ...] = (16,)
    activation: str = "tanh"
    scale: str = "learned"
    trunk: str | None = None

    kind: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple | list):
            raise SpecError(f"`hidden` must be a sequence of whole numbers; it is {self.hidden!r}.")
        check_whole("number of hidden layers", len(self.hidden), 0, MOST_LAYERS)
        for units in self.hidden:
            check_whole("hidden", units, 1, MOST_UNITS)
        object.__setattr__(self, "hidden", tuple(map(int, self.hidden)))
        if self.activation not in ACTIVATIONS:
            raise SpecError(unknown("activation", self.activation, ACTIVATIONS))
        if self.scale not in SCALES:
            raise SpecError(unknown("scale", self.scale, SCALES))
        trunk = self.trunk
        if trunk is not None and not (isinstance(trunk, str) and trunk.isidentifier()):
            raise SpecError(f"`trunk` must be a name (an identifier); it is {trunk!r}.")
        if trunk is not None and not self.hidden:
            raise SpecError("A trunk needs hidden layers: give `hidden`.")

    @property
    def is_linear(self) -> bool:
        return not self.hidden

    def feature_site(self, site: Site) -> Site:
        return site if self.trunk is None else replace(site, stem=self.trunk, each=False)

    def labels(self, matrix: Matrix) -> list[str]:
        if matrix.intercept != 0:
            raise SpecError(f"{self!r} needs a formula with an intercept.")
        return _inputs(self.hidden[-1]) if self.hidden else list(matrix.terms)

    def features(self, matrix: Matrix) -> np.ndarray:
        return matrix.standardised if self.hidden else matrix.standardised[:, 1:]

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> np.ndarray:
        slopes = self.hidden[-1] if self.hidden else len(b.matrix.terms) - 1
        width = np.sqrt(slopes) if self.hidden else 1.0
        return np.array([b.units.intercept, *[b.units.slope / width] * slopes])

    def phi(self, site: Site, values: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        if not self.hidden:
            return turned(features)
        act, root = ACTIVATIONS[self.activation], self.feature_site(site).stem
        units = act(xp.matmul(values[_weights(root, 0)], turned(features)), xp)  # (..., unit, obs)
        for layer in range(1, len(self.hidden)):
            weights = values[_weights(root, layer)]
            units = act(xp.matmul(weights[..., 1:], units) + weights[..., 0, None], xp)
        return units

    def variables(self, site: Site) -> Variables:
        if not self.hidden:
            return Variables([coefficients(site, names.term(site.stem))])
        shared, home = self.trunk is not None, self.feature_site(site)
        root, layers = home.stem, len(self.hidden)
        decay = names.part(root, names.DECAY) if self.scale == "learned" else None
        weights = [
            Variable(
                _weights(root, layer),
                (*home.lead, f"{names.part(root, names.UNIT)}{layer}", _input_dim(root, layer)),
                prior=partial(self._weights_prior, layer),
                initial=partial(self._initial_weights, layer),
                in_basis=True,
                shared=shared,
                identified=False,
                scale=None if decay is None else (decay, layer),
            )
            for layer in range(layers)
        ]
        coef = coefficients(site, names.part(site.stem, names.BASIS), identified=False)
        if decay is None:
            return Variables([coef, *weights])
        scales = Variable(
            decay,
            (names.part(root, names.LAYER),),
            prior=lambda b: Prior("Gamma", alpha=2.0, beta=1.0),
            initial=lambda b, rng: np.full(layers, START),
            positive=True,
            shared=shared,
        )
        return Variables([coef, *weights, scales])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        root = self.feature_site(b.site).stem
        labels = super().coords(b) | {names.term(root): list(b.matrix.terms)}
        for layer, units in enumerate(self.hidden):
            labels[f"{names.part(root, names.UNIT)}{layer}"] = list(range(units))
            if layer:
                labels[_input_dim(root, layer)] = _inputs(self.hidden[layer - 1])
        if self.hidden and self.scale == "learned":
            labels[names.part(root, names.LAYER)] = list(range(len(self.hidden)))
        return labels

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "hidden": list(self.hidden),
            "activation": self.activation,
            "scale": self.scale,
            "trunk": self.trunk,
        }

    def _weights_prior(self, layer: int, b: Binding) -> Prior:
        inputs = self._sizes(b.matrix)[layer][1]
        return Prior("Normal", mu=0.0, sigma=float(inputs**-0.5))

    def _initial_weights(self, layer: int, b: Binding, rng: np.random.Generator) -> np.ndarray:
        size = self._sizes(b.matrix)[layer]
        drawn = rng.standard_normal((*self.feature_site(b.site).lead_shape, *size))
        weights: np.ndarray = START * drawn / np.sqrt(size[1])
        return weights

    def _sizes(self, matrix: Matrix) -> list[tuple[int, int]]:
        """Units and inputs of each hidden layer."""
        inputs = [len(matrix.terms), *(units + 1 for units in self.hidden)]
        return list(zip(self.hidden, inputs, strict=False))


def _weights(root: str, layer: int) -> str:
    """Name of a layer's weights."""
    return f"{names.part(root, names.HIDDEN)}{layer}"


def _input_dim(root: str, layer: int) -> str:
    """Dimension over the inputs of a layer."""
    return names.term(root) if layer == 0 else f"{names.part(root, names.INPUT)}{layer}"


def _inputs(units: int) -> list[str]:
    """Labels of the inputs of the next layer, from the number of units."""
    return [INTERCEPT, *(str(j) for j in range(units))]

"""Neural network: ``eta = coef_0 + coef h``, with ``h = a(W a(... W_0 z))``.

``z`` are the standardised features, the formula's intercept among them. Hidden layers are one for
each expert, one for all rows of a gate, or, with a trunk's name, one for every predictor of the
model that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Values
from bayes_moe.predictors.basis import Basis, existing
from bayes_moe.predictors.columns import basis_dim
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import Units
from bayes_moe.priors.prior import Prior

ACTIVATIONS: dict[str, Callable[[Any, Arrays], Any]] = {
    "tanh": lambda x, xp: xp.tanh(x),
    "softplus": lambda x, xp: xp.softplus(x),
    "relu": lambda x, xp: xp.where(x > 0, x, 0.0),
}
SCALES = ("learned", "fixed")
START = 1.5
"""Scale of a layer's weights at which climbs begin."""


@dataclass(frozen=True)
class MLP(Basis):
    r"""Multilayer perceptron.

    Where the predictor is that of ``mu``: weights of hidden layer 0, ``mu_hidden0 (mu_unit0,
    mu_term)``, of layer 1, ``mu_hidden1 (mu_unit1, mu_input1)``, ... are normal with standard
    deviation ``mu_decay[layer] / sqrt(inputs)``; those of the output, ``mu_coef (expert,
    mu_basis)``, have the standard deviation of a linear predictor's slopes divided by
    ``sqrt(units)``, and the intercept its own. Weights refer to standardised features. Experts have
    hidden layers of their own, ``mu_hidden0 (expert, mu_unit0, mu_term)``; rows of a gate share
    them. Without hidden layers the predictor is linear.

    Parameters
    ----------
    hidden : sequence of int
        Units of each hidden layer.
    activation : {"tanh", "softplus", "relu"}
        What a unit makes of the sum of its inputs.
    scale : {"learned", "fixed"}
        Whether the scale of each hidden layer's weights, the strength of weight decay, is learned,
        with the prior ``Gamma(2, 1)`` on ``mu_decay``, or is 1.
    trunk : str, optional
        Name of hidden layers that several predictors of the model share, as those of a mixture
        density network do: their variables are ``<trunk>_hidden0``, ... Predictors of one trunk
        need the same formula, hidden layers and activation.

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
    scale: str = "learned"
    trunk: str | None = None

    kind: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple | list):
            raise SpecError(f"`hidden` must be a sequence of whole numbers; it is {self.hidden!r}.")
        for units in self.hidden:
            check_whole("hidden", units, 1)
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

    def each(self, place: Site) -> bool:
        return place.each and self.trunk is None

    def root(self, place: Site) -> str:
        """What the names of hidden layers begin with."""
        return self.trunk or place.stem

    def data_stem(self, place: Site) -> str:
        return self.root(place)

    def labels(self, matrix: Matrix) -> list[str]:
        if matrix.intercept != 0:
            raise SpecError(f"{self!r} needs a formula with an intercept.")
        return _inputs(self.hidden[-1]) if self.hidden else list(matrix.terms)

    def features(self, matrix: Matrix) -> np.ndarray:
        return matrix.standardised if self.hidden else matrix.standardised[:, 1:]

    def spreads(
        self, place: Site, own: Mapping[str, Any], units: Units, matrix: Matrix, xp: Arrays
    ) -> np.ndarray:
        slopes = self.hidden[-1] if self.hidden else len(matrix.terms) - 1
        width = np.sqrt(slopes) if self.hidden else 1.0
        return np.array([units.intercept, *[units.slope / width] * slopes])

    def phi(self, place: Site, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        if not self.hidden:
            return features.T
        act = ACTIVATIONS[self.activation]
        units = act(xp.matmul(own[self._weights(place, 0)], features.T), xp)  # (..., unit, obs)
        for layer in range(1, len(self.hidden)):
            weights = own[self._weights(place, layer)]
            units = act(xp.matmul(weights[..., 1:], units) + weights[..., 0, None], xp)
        return units

    # --- hidden layers ------------------------------------------------------------------------

    def hyperparameter_priors(
        self, place: Site, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        weights = {
            self._weights(place, layer): Prior("Normal", mu=0.0, sigma=float(inputs**-0.5))
            for layer, (_, inputs) in enumerate(self._sizes(matrix))
        }
        decay = {name: Prior("Gamma", alpha=2.0, beta=1.0) for name in self._decay(place)}
        return weights | decay

    def hyperparameter_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        root, found = self.root(place), {}
        for layer in range(len(self.hidden)):
            inputs = names.term(root) if layer == 0 else f"{root}_input{layer}"
            found[self._weights(place, layer)] = (
                *self.lead(place),
                f"{root}_unit{layer}",
                inputs,
            )
        return found | {name: (f"{root}_layer",) for name in self._decay(place)}

    def hyperparameter_rvs(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        own: Mapping[str, Prior] | None,
    ) -> dict[str, Any]:
        if not self._decay(place):
            return super().hyperparameter_rvs(place, matrix, response, own)
        import pymc as pm

        priors, dims = (
            self.hyperparameter_priors(place, matrix, response) | dict(own or {}),
            self.hyperparameter_dims(place),
        )
        (name,) = self._decay(place)
        decay = existing(name, lambda: priors[name].rv(name, dims[name]))
        found = {name: decay}
        for layer in range(len(self.hidden)):
            weights = self._weights(place, layer)

            def scaled(weights: str = weights, layer: int = layer) -> Any:
                raw = priors[weights].rv(names.raw(weights), dims[weights])
                return pm.Deterministic(weights, raw * decay[layer], dims=dims[weights])

            found[weights] = existing(weights, scaled)
        return found

    def raw_hyperparameters(
        self, place: Site, matrix: Matrix, own: Values
    ) -> dict[str, np.ndarray]:
        if not self._decay(place):
            return dict(own)
        (name,) = self._decay(place)
        found = {name: np.asarray(own[name])}
        for layer in range(len(self.hidden)):
            weights = self._weights(place, layer)
            values = np.asarray(own[weights])
            decay = found[name][..., layer]
            wide = decay.reshape(*decay.shape, *[1] * (values.ndim - decay.ndim))
            found[names.raw(weights)] = values / wide
        return found

    def internal_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        own = self.hyperparameter_dims(place)
        hidden = self.basis_parameters(place) if self._decay(place) else ()
        return super().internal_dims(place) | {names.raw(n): own[n] for n in hidden}

    def positive(self, place: Site) -> frozenset[str]:
        return frozenset(self._decay(place))

    def raw_sds(
        self, place: Site, own: Mapping[str, Any], matrix: Matrix, response: np.ndarray
    ) -> dict[str, np.ndarray]:
        return {
            names.raw(self._weights(place, layer)): np.asarray(own[name][layer])
            for name in self._decay(place)
            for layer in range(len(self.hidden))
        }

    def basis_parameters(self, place: Site) -> frozenset[str]:
        return frozenset(self._weights(place, layer) for layer in range(len(self.hidden)))

    def shared_variables(self, place: Site) -> frozenset[str]:
        return frozenset() if self.trunk is None else frozenset(self.hyperparameter_dims(place))

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        root = self.root(place)
        found = super().coords(place, matrix) | {names.term(root): list(matrix.terms)}
        for layer, units in enumerate(self.hidden):
            found[f"{root}_unit{layer}"] = list(range(units))
            if layer:
                found[f"{root}_input{layer}"] = _inputs(self.hidden[layer - 1])
        if self._decay(place):
            found[f"{root}_layer"] = list(range(len(self.hidden)))
        return found

    def basis_dim(self, place: Site) -> str:
        return basis_dim(place.stem) if self.hidden else names.term(place.stem)

    def initial_hyperparameters(
        self, place: Site, matrix: Matrix, rng: np.random.Generator
    ) -> dict[str, Any]:
        lead = self.lead_shape(place)
        weights = {
            self._weights(place, layer): START
            * rng.standard_normal((*lead, *size))
            / np.sqrt(size[1])
            for layer, size in enumerate(self._sizes(matrix))
        }
        return weights | {name: np.full(len(self.hidden), START) for name in self._decay(place)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "hidden": list(self.hidden),
            "activation": self.activation,
            "scale": self.scale,
            "trunk": self.trunk,
        }

    def _sizes(self, matrix: Matrix) -> list[tuple[int, int]]:
        """Units and inputs of each hidden layer."""
        inputs = [len(matrix.terms), *(units + 1 for units in self.hidden)]
        return list(zip(self.hidden, inputs, strict=False))

    def _weights(self, place: Site, layer: int) -> str:
        return f"{self.root(place)}_hidden{layer}"

    def _decay(self, place: Site) -> tuple[str, ...]:
        """Name of the layers' scales, if they are learned."""
        learned = self.hidden and self.scale == "learned"
        return (f"{self.root(place)}_decay",) if learned else ()


def _inputs(units: int) -> list[str]:
    """Names of a layer's units for the next one."""
    return [INTERCEPT, *(str(j) for j in range(units))]

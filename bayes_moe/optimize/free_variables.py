"""Free variables of a model as one vector, in the order and with the transforms of its graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.core.graph_context import CONSTANTS
from bayes_moe.data.design import Design
from bayes_moe.model.internal_values import Part, internal_values, parts
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import MLP, Linear, Predictor
from bayes_moe.predictors.group_basis import without_effects
from bayes_moe.predictors.group_effects import internal_prior
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.predictors.recurrent import Recurrent
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.predictors.site import Binding
from bayes_moe.predictors.variables import reported_hyperparameters
from bayes_moe.priors.coordinates import coordinate_of
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class FreeVariable:
    """A random variable of a model's graph.

    Attributes
    ----------
    name : str
        Its name in the graph.
    shape : tuple of int
        Its shape.
    prior : Prior
        Its prior.
    column : bool
        Whether arguments of its prior are one number for each position along its first axis.
    where : slice
        Its positions in the vector of coordinates.
    """

    name: str
    shape: tuple[int, ...]
    prior: Prior
    column: bool = False
    where: slice = slice(0)

    @cached_property
    def basis(self) -> np.ndarray | None:
        """Coordinates (direction, output) of values that sum to zero along the last axis."""
        return zero_sum_basis(self.shape[-1]) if self.prior.kind.support == "zero-sum" else None

    @property
    def free_shape(self) -> tuple[int, ...]:
        """Shape of the unconstrained values."""
        return self.shape if self.basis is None else (*self.shape[:-1], self.shape[-1] - 1)

    def value(self, points: np.ndarray) -> np.ndarray:
        """Values (point, ...) at points (point, coordinate)."""
        free = points[:, self.where].reshape(len(points), *self.free_shape)
        return coordinate_of(self.prior).value(free) if self.basis is None else free @ self.basis

    def unconstrained(self, value: np.ndarray) -> np.ndarray:
        """Unconstrained values of a value."""
        if self.basis is None:
            return coordinate_of(self.prior).of_value(value)
        unmixed: np.ndarray = value @ self.basis.T
        return unmixed


def zero_sum_basis(size: int) -> np.ndarray:
    """PyMC's orthonormal basis (size - 1, size) of the vectors that sum to zero."""
    basis = np.eye(size - 1, size) - 1 / (size + size**0.5)
    basis[:, -1] = -1 / size**0.5
    return basis


@dataclass(frozen=True, eq=False)
class FreeVariables:
    """All free variables of a model whose predictors are linear or networks."""

    spec: MixtureOfExperts
    design: Design
    priors: Mapping[str, Prior]
    parts: tuple[FreeVariable, ...]

    @classmethod
    def of(
        cls, spec: MixtureOfExperts, design: Design, priors: Mapping[str, Prior]
    ) -> FreeVariables:
        """Free variables of a model under resolved priors."""
        found: dict[str, FreeVariable] = {}
        for part in parts(spec, design, priors):
            for variable in _variables(part, priors):
                found.setdefault(variable.name, variable)
        ends = accumulate((int(np.prod(v.free_shape)) for v in found.values()), initial=0)
        pairs = zip(found.values(), pairwise(ends), strict=True)
        return cls(spec, design, priors, tuple(replace(v, where=slice(*ab)) for v, ab in pairs))

    def __getitem__(self, name: str) -> FreeVariable:
        return next(v for v in self.parts if v.name == name)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(self.parts[-1].where.stop)

    def coordinates(self, chosen: Iterable[str]) -> np.ndarray:
        """Whether each coordinate (coordinate,) belongs to one of the free variables."""
        mask = np.zeros(self.size, dtype=bool)
        for name in {*chosen} & {v.name for v in self.parts}:
            mask[self[name].where] = True
        return mask

    def determining(self, name: str) -> set[str]:
        """Names of the free variables of which a variable is a function."""
        for part in parts(self.spec, self.design, self.priors):
            if part.placed is not None:
                predictor, b = part.placed
                if name == part.variable:
                    return {b.site.raw}
                for e in predictor.groups(b.site) if isinstance(predictor, RandomEffects) else ():
                    if name == e.effect:
                        return {*e.internal_dims, *e.scales}
                for v in predictor.variables(b.site).hyperparameters:
                    if name == v.name and v.scale is not None:
                        return {names.raw(name), v.scale[0]}
        return {name}

    def points(self, values: Values) -> np.ndarray:
        """Points (point, coordinate) of reported variables (point, ...)."""
        internal = internal_values(self.spec, self.design, self.priors, values)
        free = [v.unconstrained(internal[v.name]) for v in self.parts]
        return np.concatenate([v.reshape(len(v), -1) for v in free], axis=1)

    def variables(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Variables (point, ...) of a model, internal ones too, at points (point, coordinate)."""
        internal = {v.name: v.value(points) for v in self.parts}
        values = dict(internal)
        for part in parts(self.spec, self.design, self.priors):
            if part.placed is not None:
                values |= _reported(*part.placed, internal)
        return {name: values[name] for name in self.spec.structure.dims}


def _reported(predictor: Predictor, b: Binding, internal: Values) -> dict[str, np.ndarray]:
    """Reported variables of a predictor at internal ones, all (point, ...)."""
    hyper = reported_hyperparameters(predictor.variables(b.site), internal)
    coef = np.swapaxes(internal[b.site.raw], -1, -2)  # (point, internal output, term)
    coef = coef if b.site.mixing is None else np.matmul(b.site.mixing.T, coef)
    fixed = without_effects(predictor)
    spread = fixed.spread(b, hyper, NUMERIC)
    scaling = Scaling(fixed.basis(b.matrix), b.units)
    groups = predictor.groups(b.site) if isinstance(predictor, RandomEffects) else []
    effects = {e.effect: e.of_internal(internal) for e in groups}
    coef = scaling.to_user(coef if spread is None else coef * spread)
    return hyper | {b.site.coef: coef} | effects


def _variables(part: Part, priors: Mapping[str, Prior]) -> Iterator[FreeVariable]:
    """Free variables of a part of a model: scales, then what they multiply, then coefficients.

    Those of groups come after coefficients: scales and correlations, then effects.
    """
    assert part.prior is not None
    if part.placed is None:
        yield FreeVariable(part.variable, (part.outputs,), part.prior)
        return
    predictor, b = part.placed
    variables, shapes = predictor.variables(b.site), predictor.shapes(b)
    given = variables.priors(b) | dict(priors)
    hyperparameters = []
    for v in sorted(variables.hyperparameters, key=lambda v: v.scale is not None):
        name = v.name if v.scale is None else names.raw(v.name)
        hyperparameters.append(FreeVariable(name, shapes[v.name], given[v.name]))
    groups = predictor.groups(b.site) if isinstance(predictor, RandomEffects) else []
    yield from () if groups else hyperparameters
    if isinstance(predictor, Linear):
        prior, _ = predictor.internal_prior(b, part.prior, priors, CONSTANTS)
    else:
        assert isinstance(predictor, MLP | Recurrent)
        prior = part.prior.over_terms(b.site.coef, tuple(predictor.labels(b.matrix)))
    width = part.outputs if b.site.mixing is None else len(b.site.mixing)
    yield FreeVariable(b.site.raw, (shapes[b.site.coef][-1], width), prior, column=True)
    yield from hyperparameters if groups else ()
    for e in groups:
        (name,) = e.internal_dims
        yield FreeVariable(name, (*shapes[e.effect][1:], width), internal_prior(part.prior))

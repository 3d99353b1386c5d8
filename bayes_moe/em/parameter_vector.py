"""Free parameters of a linear model as one vector, with its log prior.

Every family parameter and the gate is a linear predictor on its link scale, ``eta = unit * Z raw +
offset``; a parameter that is constant per expert has a single feature, 1. The coordinates are the
internal coefficients ``raw`` of :mod:`bayes_moe.predictors.linear`, and of constants their links,
such as logarithms.
A gate whose log weights depend on differences of experts only (zero-sum prior, or no prior) has
coordinates in an orthonormal basis of the vectors that sum to zero over the experts.

Points are arrays (point, coordinate): all functions take many points at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.linalg import unmixed
from bayes_moe.core.samples import Sample
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.em.constraint import Constraint, feasible
from bayes_moe.em.prior_groups import PriorGroup, PriorTerm, prior_groups
from bayes_moe.families import Link
from bayes_moe.gates.splits import SplitTree
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.group_basis import all_parts, internal_parts, reported_parts
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.priors.coordinates import COORDINATES, coordinate_of
from bayes_moe.priors.defaults import role_of
from bayes_moe.priors.densities import kink, log_density_of_coordinate
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class ParameterBlock:
    """Coefficients of one linear predictor: the gate's, or that of a family parameter.

    Attributes
    ----------
    site, predictor : Site, Predictor
        The predictor, and its site in the model.
    variable : str
        Name of the reported variable.
    factor : int or None
        Index of the density factor it belongs to; None for the gate.
    parameter : int
        Position of its first predictor among the family's slots.
    experts : tuple of int
        Expert of each output, by position among all; of a gate's outputs among all of the gate's.
    size : int
        Slots of the family that it fills; its outputs are (slot, expert).
    scaling : Scaling or None
        Map from internal to reported coefficients; None for a constant.
    link : Link
        Link of a constant.
    prior : Prior or None
        Prior of the coordinates (of the natural value, for a constant).
    basis : array (direction, expert) or None
        Map from coordinates to internal coefficients, with orthogonal directions. None means one
        coordinate per expert.
    layout : array (internal, expert) or None
        Map from the model's internal coefficients to those of experts, if they differ.
    gain : float
        Factor of the predictor in the log weights.
    prior_scale : array (term,) or (expert, term), or None
        Factor from the model's internal coefficients, which have ``prior``, to these.
    floor : float
        Least logarithm of the spread, for a parameter that collapses (:meth:`log_spread`).
    narrow : float
        Logarithm of the spread below which an expert with few rows has collapsed onto them.
    where : slice
        Its positions in the vector of coordinates.
    """

    site: Site
    predictor: Predictor
    variable: str
    factor: int | None
    parameter: int
    experts: tuple[int, ...]
    scaling: Scaling | None
    link: Link
    prior: Prior | None
    basis: np.ndarray | None
    size: int = 1
    layout: np.ndarray | None = None
    gain: float = 1.0
    prior_scale: np.ndarray | None = None
    floor: float = -np.inf
    narrow: float = -np.inf
    where: slice = slice(0)

    @property
    def stem(self) -> str:
        """Name of its design matrix."""
        return self.site.stem

    @property
    def role(self) -> str:
        """Role of the parameter: ``"gate"``, ``"location"``, ``"scale"``, ..."""
        return self.site.role

    @property
    def dim(self) -> str:
        """Name of the dimension of its experts."""
        return self.site.dim

    def features(self, rows: Rows) -> Matrix:
        """Features of the predictor on rows of a table."""
        return self.predictor.basis(rows.matrices[self.stem])

    def offset_of(self, rows: Rows) -> np.ndarray | None:
        """Offset (expert or 1, obs) of its formula on rows of a table, None without one."""
        if self.scaling is None:
            return None
        offset = self.site.bind(rows.matrices[self.stem]).offset
        return None if offset is None else self.gain * offset

    @property
    def terms(self) -> int:
        """Number of features."""
        return 1 if self.scaling is None else len(self.scaling.matrix.terms)

    @property
    def directions(self) -> int:
        """Number of free directions over the experts."""
        return len(self.experts) if self.basis is None else len(self.basis)

    @property
    def unit(self) -> float:
        """Factor from internal coefficients to eta."""
        return 1.0 if self.scaling is None else self.gain * self.scaling.units.unit

    @property
    def offset(self) -> float:
        """Value of eta where all coordinates are zero."""
        return 0.0 if self.scaling is None else self.gain * self.scaling.units.offset

    def log_spread(self, eta: np.ndarray) -> np.ndarray:
        """Logarithm of the spread that a predictor means: of sigma, or of ``1 / sqrt(alpha)``."""
        return role_of(self.role).log_spread(eta)

    def bounded(self, eta: np.ndarray) -> np.ndarray:
        """Predictors whose spread is at least the floor."""
        return role_of(self.role).bounded(eta, self.floor)

    def raw(self, theta: np.ndarray) -> np.ndarray:
        """Internal coefficients (point, expert, term) of points (point, coordinate)."""
        free = theta[:, self.where].reshape(len(theta), self.directions, self.terms)
        return free if self.basis is None else np.matmul(self.basis.T, free)

    def coefficients(self, theta: np.ndarray) -> np.ndarray:
        """Coefficients (point, expert, term) in units of eta, of points (point, coordinate)."""
        coef = self.raw(theta) * self.unit
        if self.offset != 0.0:
            assert self.scaling is not None
            coef[..., self.scaling.matrix.intercept] += self.offset
        return coef

    def free(self, raw: np.ndarray) -> np.ndarray:
        """Coordinates (point, coordinate) of internal coefficients (point, expert, term)."""
        free = raw if self.basis is None else unmixed(self.basis, raw)
        return free.reshape(len(raw), self.directions * self.terms)


@dataclass(frozen=True)
class ParameterVector:
    """All blocks of a model's parameters, the gate's first, and the log prior of the coordinates.

    ``jacobian`` adds the log Jacobian of constants, so that the log prior is the density of the
    coordinates themselves, as samplers need it, and not of the natural values. ``hyperparameters``
    are the fixed values of the parameters of learned priors, by name. With a ``constraint``, points
    lie in the affine space that it spans, and each of its free coordinates has one prior.
    """

    spec: MixtureOfExperts
    design: Design
    blocks: tuple[ParameterBlock, ...]
    jacobian: bool
    hyperparameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    constraint: Constraint | None = None

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.blocks[-1].where.stop

    def with_hyperparameters(self, hyperparameters: Mapping[str, np.ndarray]) -> ParameterVector:
        """Return the vector under other values of the hyperparameters."""
        blocks = []
        for block in self.blocks:
            if block.prior_scale is not None:
                block = replace(block, prior_scale=self.spread(block, hyperparameters))
            blocks.append(block)
        return replace(self, blocks=tuple(blocks), hyperparameters=dict(hyperparameters))

    def spread(
        self, block: ParameterBlock, hyperparameters: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Prior scales of a block's coefficients under values of the hyperparameters."""
        matrix = self.design.rows.matrices[block.stem]
        b = block.site.bind(matrix, own_response(self, block))
        scales: np.ndarray = block.predictor.spread(b, hyperparameters, NUMERIC)
        return scales

    @cached_property
    def log_hyperprior(self) -> float:
        """Log prior density of the hyperparameters."""
        if not self.hyperparameters:
            return 0.0
        priors = self.spec.resolve_priors(self.design)
        total = 0.0
        for name, value in self.hyperparameters.items():
            kind = coordinate_of(priors[name])
            at = kind.of_value(np.atleast_1d(value))
            total += float(np.sum(log_density_of_coordinate(priors[name], at)[0]))
            total += float(np.sum(kind.log_slope(at)[0])) if self.jacobian else 0.0
        return total

    @property
    def tied(self) -> bool:
        """Whether hyperparameters differ between experts, so that these are not exchangeable."""
        by_dim = self.spec.structure.permutation_index(np.arange(self.spec.n_experts)[None])
        dims = self.spec.structure.dims
        by_expert = (v for name, v in self.hyperparameters.items() if dims[name][0] in by_dim)
        return any(np.ptp(v, axis=0).any() for v in by_expert)

    @cached_property
    def split_tree(self) -> SplitTree | None:
        """The gate's splits; None for one expert."""
        has_gate = self.blocks[0].factor is None
        return self.spec.structure.gate.splits if has_gate else None

    def permute(self, theta: np.ndarray, orders: np.ndarray) -> np.ndarray:
        """Points whose expert ``k`` is expert ``orders[point, k]`` of ``theta``."""
        by_dim = self.spec.structure.permutation_index(orders)
        parts = []
        for block in self.blocks:
            raw = block.raw(theta)
            parts.append(block.free(np.take_along_axis(raw, by_dim[block.dim][..., None], axis=1)))
        return np.concatenate(parts, axis=1)

    @cached_property
    def has_kinks(self) -> bool:
        """Whether the log prior has kinks."""
        return not bool(np.isnan(self.kinks).all())

    @cached_property
    def kinks(self) -> np.ndarray:
        """Kink of the log prior (coordinate,); NaN where it has none."""
        return _laplace_argument(self, "mu")

    @cached_property
    def kink_slopes(self) -> np.ndarray:
        """Absolute slope of the log prior on either side of its kink (coordinate,)."""
        return 1 / _laplace_argument(self, "b")

    def log_prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log prior density (point,) and its first and second derivatives (point, coordinate).

        Of coefficients with learned scales it is that of the sampler's, in units of these; that of
        the hyperparameters is a constant.
        """
        value = np.full(len(theta), self.log_hyperprior)
        first, second = np.zeros_like(theta), np.zeros_like(theta)
        for group in self._prior_groups:
            group.add(theta, value, (first, second))
        for block, at in _constants(self) if self.jacobian else ():
            parts = COORDINATES[block.link.support].log_slope(theta[:, at])
            value += np.sum(parts[0], axis=1)
            first[:, at] += parts[1]
            second[:, at] += parts[2]
        return value, first, second

    @cached_property
    def _prior_groups(self) -> list[PriorGroup]:
        """Coordinates whose priors are evaluated together."""
        return prior_groups(prior_terms(self))

    def variables(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Variables of the model at points (point, ...): reported ones and internal ones."""
        values: dict[str, np.ndarray] = {}
        for block in self.blocks:
            raw = block.raw(theta)
            if block.scaling is None:
                natural = block.link.inverse(block.bounded(raw[..., 0]), NUMERIC)
                values[block.variable] = natural
            else:
                at = (block.predictor, block.site, block.scaling.matrix)
                values |= reported_parts(*at, block.scaling.to_user(raw))
                internal = raw if block.layout is None else unmixed(block.layout, raw)
                internal = internal if block.prior_scale is None else internal / block.prior_scale
                values |= internal_parts(*at, np.swapaxes(internal, -1, -2))
        for name, value in self.hyperparameters.items():
            values[name] = np.broadcast_to(value, (len(theta), *value.shape)).copy()
        return values

    def points(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Points (point, coordinate) of reported variables (point, ...)."""
        parts = []
        for block in self.blocks:
            if block.scaling is None:
                value = np.asarray(values[block.variable], dtype=float)
                raw = block.link(value, NUMERIC)[..., None]
            else:
                raw = block.scaling.to_raw(all_parts(block.predictor, block.site, values))
            parts.append(block.free(raw))
        return feasible(self.constraint, np.concatenate(parts, axis=1))

    def reported_sds(self, theta: np.ndarray, covariance: np.ndarray) -> dict[str, np.ndarray]:
        """Standard errors of the reported variables at one point (coordinate,), by delta method.

        Coefficients are linear in the coordinates; a constant ``g(u)`` has ``|g'(u)| sd(u)``.
        """
        sds: dict[str, np.ndarray] = {}
        for block in self.blocks:
            basis = np.eye(len(block.experts)) if block.basis is None else block.basis
            within = covariance[block.where, block.where]
            within = within.reshape(block.directions, block.terms, block.directions, block.terms)
            by_expert = np.einsum("dk,dien,ek->kin", basis, within, basis, optimize=True)
            if block.scaling is None:
                slope = COORDINATES[block.link.support].slope(
                    block.bounded(block.raw(theta[None])[0, :, 0])
                )
                sds[block.variable] = slope * np.sqrt(by_expert[:, 0, 0])
            else:
                variance = block.scaling.variances(by_expert)
                at = (block.predictor, block.site, block.scaling.matrix)
                sds |= reported_parts(*at, np.sqrt(np.maximum(variance, 0.0)))
        unknown = {
            name: np.full(value.shape, np.nan) for name, value in self.hyperparameters.items()
        }
        return sds | unknown


def own_response(vector: ParameterVector, block: ParameterBlock) -> Sample:
    """Response in whose units a block's parameter is: of rows that its experts can have.

    That of the gate is the first of several responses.
    """
    if block.factor is None:
        return vector.design.first_sample
    factor = vector.spec.structure.factors[block.factor]
    parameter = factor.block.family.slots[block.parameter].parameter
    return parameter.own(factor.own_response(vector.design.rows))


def is_likelihood(vector: ParameterVector) -> bool:
    """Whether a vector has no priors."""
    return vector.blocks[-1].prior is None


def _laplace_argument(vector: ParameterVector, argument: str) -> np.ndarray:
    """An argument of the Laplace priors (coordinate,); NaN where there is none."""
    values = np.full(vector.size, np.nan)
    for term in prior_terms(vector):
        if kink(term.prior) is not None:
            units = np.asarray(term.prior.arguments[argument]) * term.unit
            values[term.where] = np.broadcast_to(units, term.shape).ravel()
    return values


def prior_terms(vector: ParameterVector) -> list[PriorTerm]:
    """Priors of a vector's coordinates."""
    constraint, terms = vector.constraint, []
    for block in vector.blocks:
        if block.prior is not None and not (constraint and block.variable in constraint.variables):
            unit = 1.0 if block.prior_scale is None else block.prior_scale
            shape = (block.directions, block.terms)
            terms.append(PriorTerm(block.prior, shape, unit, block.where))
    return terms + ([] if constraint is None else [*constraint.prior_terms])


def _constants(
    vector: ParameterVector,
) -> list[tuple[ParameterBlock, slice | np.ndarray]]:
    """Blocks of constants, with their free coordinates."""
    blocks = [block for block in vector.blocks if block.scaling is None]
    if vector.constraint is None:
        return [(block, block.where) for block in blocks]
    at = vector.constraint.at
    return [(b, at[(at >= b.where.start) & (at < b.where.stop)]) for b in blocks]

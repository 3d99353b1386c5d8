"""The free coordinates of a model: one vector of numbers for all that an optimiser may move.

Every family parameter and the gate is a linear predictor on its link scale, ``eta = unit * Z raw +
offset``; a parameter that is constant per expert is one with a single feature, 1. The coordinates
are the internal coefficients ``raw`` of :mod:`bayes_moe.predictors.linear` and the logarithms of
constants. A gate whose log weights only differences of experts decide (zero-sum prior, or no prior)
moves in an orthonormal basis of the vectors that sum to zero over the experts.

Points are arrays (point, coordinate): everything here works on many points at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.families import Link
from bayes_moe.gates.splits import SplitTree
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.priors.densities import kink, log_density, log_density_of_log
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class ParameterBlock:
    """One linear predictor of the model: the gate's, or that of a family parameter of a block.

    Attributes
    ----------
    place, predictor : Place, Predictor
        What predicts, and where.
    variable : str
        Name of the reported variable.
    block : int or None
        Which of the model's parts it belongs to; None for the gate.
    parameter : int
        Position in the family's table.
    experts : tuple of int
        Positions of its experts among all; of the gate's rows among all of them.
    scaling : Scaling or None
        From internal to reported coefficients; None for a constant.
    link : Link
        Of a constant.
    prior : Prior or None
        Of the coordinates (of the natural value, for a constant).
    basis : array (direction, expert) or None
        From coordinates to internal coefficients; its rows are orthogonal. None means one
        coordinate an expert.
    layout : array (internal, expert) or None
        What takes the model's internal coefficients to those of experts, if they are others.
    gain : float
        Factor of the predictor before it becomes weights.
    stretch : array (term,) or (expert, term), or None
        What the model's internal coefficients are multiplied by to be these; ``prior`` is theirs.
    floor : float
        Least value of eta.
    where : slice
        Its place in the vector of coordinates.
    """

    place: Site
    predictor: Predictor
    variable: str
    block: int | None
    parameter: int
    experts: tuple[int, ...]
    scaling: Scaling | None
    link: Link
    prior: Prior | None
    basis: np.ndarray | None
    layout: np.ndarray | None = None
    gain: float = 1.0
    stretch: np.ndarray | None = None
    floor: float = -np.inf
    where: slice = slice(0)

    @property
    def stem(self) -> str:
        """Name of its design matrix."""
        return self.place.stem

    @property
    def role(self) -> str:
        """What the parameter is: ``"gate"``, ``"location"``, ``"scale"``, ..."""
        return self.place.role

    @property
    def dim(self) -> str:
        """Dimension over its experts."""
        return self.place.dim

    def features(self, rows: Rows) -> Matrix:
        """Features of the predictor on rows of a table."""
        return self.predictor.basis(rows.matrices[self.stem])

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
        """The value of eta at coordinates zero."""
        return 0.0 if self.scaling is None else self.gain * self.scaling.units.offset

    def raw(self, theta: np.ndarray) -> np.ndarray:
        """Internal coefficients (point, expert, term) of points (point, coordinate)."""
        free = theta[:, self.where].reshape(len(theta), self.directions, self.terms)
        return free if self.basis is None else np.matmul(self.basis.T, free)

    def free(self, raw: np.ndarray) -> np.ndarray:
        """Coordinates (point, coordinate) of internal coefficients (point, expert, term)."""
        free = raw if self.basis is None else unmixed(self.basis, raw)
        return free.reshape(len(raw), -1)


@dataclass(frozen=True)
class ParameterVector:
    """All slots of a model, the gate's first, and the log prior of the coordinates.

    ``jacobian`` adds the log Jacobian of constants, so that the log prior is the density of the
    coordinates themselves, as a sampler sees it, and not of the natural values. ``own`` are
    parameters of priors that are learned, by name; they do not move.
    """

    spec: MixtureOfExperts
    design: Design
    slots: tuple[ParameterBlock, ...]
    jacobian: bool
    own: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.slots[-1].where.stop

    @property
    def gated(self) -> bool:
        """Whether the first slot is a gate's."""
        return self.slots[0].block is None

    def under(self, own: Mapping[str, np.ndarray]) -> ParameterVector:
        """Return the coordinates under other values of the parameters of learned priors."""
        slots = []
        for slot in self.slots:
            if slot.stretch is not None:
                slot = replace(slot, stretch=self.spread(slot, own))
            slots.append(slot)
        return replace(self, slots=tuple(slots), own=dict(own))

    def spread(self, slot: ParameterBlock, own: Mapping[str, np.ndarray]) -> np.ndarray:
        """Spreads of a slot's coefficients under values of the parameters of learned priors."""
        rows = self.design.rows
        response = rows.observed
        if slot.block is not None:
            response = self.spec.parts[slot.block].response(rows)
        found: np.ndarray = slot.predictor.spread(
            slot.place, own, rows.matrices[slot.stem], response, NUMERIC
        )
        return found

    @cached_property
    def log_own(self) -> float:
        """Log prior density of the parameters of learned priors."""
        if not self.own:
            return 0.0
        priors = self.spec.resolve_priors(self.design)
        total = 0.0
        for name, value in self.own.items():
            logs = np.log(value)
            total += float(np.sum(log_density_of_log(priors[name], logs[..., None])[0]))
            total += float(logs.sum()) if self.jacobian else 0.0
        return total

    @property
    def tied(self) -> bool:
        """Whether experts have learned priors that differ, so that they may not trade places."""
        turned = self.spec.permutation_index(np.arange(self.spec.n_experts)[None])
        dims = self.spec.dims
        by_expert = (v for name, v in self.own.items() if dims[name][0] in turned)
        return any(np.ptp(v, axis=0).any() for v in by_expert)

    @cached_property
    def branching(self) -> SplitTree | None:
        """The gate's splits; None for one expert."""
        return self.spec.gate.branching(self.spec.n_experts) if self.gated else None

    def permute(self, theta: np.ndarray, orders: np.ndarray) -> np.ndarray:
        """Points where expert ``orders[point, k]`` has come into place ``k``."""
        turned = self.spec.permutation_index(orders)
        parts = []
        for slot in self.slots:
            raw = slot.raw(theta)
            parts.append(slot.free(np.take_along_axis(raw, turned[slot.dim][..., None], axis=1)))
        return np.concatenate(parts, axis=1)

    @cached_property
    def kinks(self) -> np.ndarray:
        """Where the log prior has a kink (coordinate,); NaN where it has none."""
        return self._laplace("mu")

    @cached_property
    def kink_slopes(self) -> np.ndarray:
        """Slope of the log prior on either side of its kink (coordinate,), which points to it."""
        return 1 / self._laplace("b")

    def _laplace(self, argument: str) -> np.ndarray:
        """An argument of the Laplace priors (coordinate,); NaN where there is none."""
        found = np.full(self.size, np.nan)
        for slot in self.slots:
            if slot.prior is not None and kink(slot.prior) is not None:
                shape = (slot.directions, slot.terms)
                unit = 1.0 if slot.stretch is None else slot.stretch
                found[slot.where] = np.broadcast_to(
                    np.asarray(slot.prior.arguments[argument]) * unit, shape
                ).ravel()
        return found

    def log_prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log prior density (point,) and its first and second derivatives (point, coordinate).

        Of coefficients with learned spreads it is that of the sampler's, in units of these; that of
        the spreads' parameters themselves is a constant.
        """
        value = np.full(len(theta), self.log_own)
        first, second = np.zeros_like(theta), np.zeros_like(theta)
        for slot in self.slots:
            own = theta[:, slot.where]
            shape = (len(theta), slot.directions, slot.terms)
            if slot.prior is not None:
                density = log_density_of_log if slot.scaling is None else log_density
                unit = np.ones(1) if slot.stretch is None else slot.stretch
                unit = np.broadcast_to(unit, shape[1:])
                terms = density(slot.prior, own.reshape(shape) / unit)
                value += np.sum(terms[0], axis=(1, 2))
                first[:, slot.where] = np.reshape(terms[1] / unit, own.shape)
                second[:, slot.where] = np.reshape(terms[2] / unit**2, own.shape)
            if self.jacobian and slot.scaling is None:
                value += own.sum(axis=1)
                first[:, slot.where] += 1.0
        return value, first, second

    def variables(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Variables of the model at points (point, ...): reported ones and internal ones."""
        found: dict[str, np.ndarray] = {}
        for slot in self.slots:
            raw = slot.raw(theta)
            if slot.scaling is None:
                natural = slot.link.inverse(np.maximum(raw[..., 0], slot.floor), NUMERIC)
                found[slot.variable] = natural
            else:
                found[slot.variable] = slot.scaling.to_user(raw)
                own = raw if slot.layout is None else unmixed(slot.layout, raw)
                own = own if slot.stretch is None else own / slot.stretch
                found[slot.place.raw] = np.swapaxes(own, -1, -2)
        for name, value in self.own.items():
            found[name] = np.broadcast_to(value, (len(theta), *value.shape)).copy()
        return found

    def points(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Points (point, coordinate) of reported variables (point, ...)."""
        parts = []
        for slot in self.slots:
            value = np.asarray(values[slot.variable], dtype=float)
            if slot.scaling is None:
                raw = slot.link(value, NUMERIC)[..., None]
            else:
                raw = slot.scaling.to_raw(value)
            parts.append(slot.free(raw))
        return np.concatenate(parts, axis=1)

    def reported_sds(self, theta: np.ndarray, covariance: np.ndarray) -> dict[str, np.ndarray]:
        """Standard errors of the reported variables at one point (coordinate,), by delta method.

        Coefficients are linear in the coordinates; a constant ``g(u)`` has ``|g'(u)| sd(u)``.
        """
        found: dict[str, np.ndarray] = {}
        for slot in self.slots:
            own = covariance[slot.where, slot.where]
            basis = np.eye(len(slot.experts)) if slot.basis is None else slot.basis
            own = own.reshape(slot.directions, slot.terms, slot.directions, slot.terms)
            by_expert = np.einsum("dk,dien,ek->kin", basis, own, basis, optimize=True)
            if slot.scaling is None:
                value = self.variables(theta[None])[slot.variable][0]
                found[slot.variable] = value * np.sqrt(by_expert[:, 0, 0])
            else:
                linear = slot.scaling.linear
                variance = np.einsum("kin,ij,nj->kj", by_expert, linear, linear, optimize=True)
                found[slot.variable] = np.sqrt(np.maximum(variance, 0.0))
        return found | {name: np.full(value.shape, np.nan) for name, value in self.own.items()}

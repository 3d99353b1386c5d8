"""The free coordinates of a model: one vector of numbers for all that an optimiser may move.

Every family parameter and the gate is a linear predictor on its link scale, ``eta = unit * Z raw +
offset``; a parameter that is constant per expert is one with a single feature, 1. The coordinates
are the internal coefficients ``raw`` of :mod:`bayes_moe.predictors.linear` and the logarithms of
constants. A gate whose log weights only differences of experts decide (zero-sum prior, or no prior)
moves in an orthonormal basis of the vectors that sum to zero over the experts.

Points are arrays (point, coordinate): everything here works on many points at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from scipy.linalg import helmert

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design, Matrix, Rows
from bayes_moe.families import Link
from bayes_moe.gates.splits import Branching
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Place, Predictor
from bayes_moe.predictors.linear import Scaling, unmixed
from bayes_moe.priors.densities import kink, log_density, log_density_of_log
from bayes_moe.priors.prior import Prior

LIKELIHOOD_FLOOR = 1e-3
"""Least scale parameter in units of the response's sd, where no prior keeps it from zero."""
POSTERIOR_FLOOR = 1e-8
"""The same under priors, which may let an expert that fits its rows exactly fall far."""


@dataclass(frozen=True)
class Slot:
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

    place: Place
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
class Coordinates:
    """All slots of a model, the gate's first, and the log prior of the coordinates.

    ``jacobian`` adds the log Jacobian of constants, so that the log prior is the density of the
    coordinates themselves, as a sampler sees it, and not of the natural values. ``own`` are
    parameters of priors that are learned, by name; they do not move.
    """

    spec: MixtureOfExperts
    design: Design
    slots: tuple[Slot, ...]
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

    def under(self, own: Mapping[str, np.ndarray]) -> Coordinates:
        """Return the coordinates under other values of the parameters of learned priors."""
        slots = []
        for slot in self.slots:
            if slot.stretch is not None:
                slot = replace(slot, stretch=self.spread(slot, own))
            slots.append(slot)
        return replace(self, slots=tuple(slots), own=dict(own))

    def spread(self, slot: Slot, own: Mapping[str, np.ndarray]) -> np.ndarray:
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
        turned = self.spec.turned(np.arange(self.spec.n_experts)[None])
        dims = self.spec.dims
        by_expert = (v for name, v in self.own.items() if dims[name][0] in turned)
        return any(np.ptp(v, axis=0).any() for v in by_expert)

    @cached_property
    def branching(self) -> Branching | None:
        """The gate's splits; None for one expert."""
        return self.spec.gate.branching(self.spec.n_experts) if self.gated else None

    def permuted(self, theta: np.ndarray, orders: np.ndarray) -> np.ndarray:
        """Points where expert ``orders[point, k]`` has come into place ``k``."""
        turned = self.spec.turned(orders)
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


def coordinates(
    spec: MixtureOfExperts,
    design: Design,
    *,
    likelihood: bool = False,
    jacobian: bool = False,
    own: Mapping[str, np.ndarray] | None = None,
) -> Coordinates:
    """Return the coordinates of a model whose predictors are linear in their coefficients.

    Parameters
    ----------
    spec, design
        The model and its data.
    likelihood : bool
        Leave the priors out, and keep scale parameters above ``LIKELIHOOD_FLOOR`` times the
        response's sd: the plain likelihood is unbounded at zero.
    jacobian : bool
        See :class:`Coordinates`.
    own : mapping of str to array, optional
        Values of the parameters of learned priors; usual ones by default.
    """
    if not spec.is_linear:
        raise SpecError(_not_linear(spec))
    usual = _usual(spec, design)
    own = usual if own is None else {name: own[name] for name in usual}
    if own and likelihood:
        raise SpecError(
            "objective='likelihood' leaves priors out, and with them what smooths or shrinks the "
            f"predictors ({', '.join(own)}): use linear ones, or objective='posterior'."
        )
    slots = [
        *_gate_slots(spec, design, likelihood, own),
        *_expert_slots(spec, design, likelihood, own),
    ]
    ends = accumulate((s.directions * s.terms for s in slots), initial=0)
    placed = [replace(s, where=slice(*ab)) for s, ab in zip(slots, pairwise(ends), strict=True)]
    return Coordinates(spec, design, tuple(placed), jacobian, own)


def _not_linear(spec: MixtureOfExperts) -> str:
    """What EM cannot treat."""
    other = next((repr(p) for _, p in spec.placed if not p.is_linear), repr(spec.gate))
    return (
        f"{other} is not linear in its coefficients, so EM cannot treat it: use method='map' or "
        "'nuts', or 'laplace' or 'advi'."
    )


def _usual(spec: MixtureOfExperts, design: Design) -> dict[str, np.ndarray]:
    """Usual values of the parameters of learned priors."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for place, predictor in spec.placed:
        found |= predictor.usual(place, design.rows.matrices[place.stem], rng)
    return found


def _gate_slots(
    spec: MixtureOfExperts, design: Design, likelihood: bool, own: Mapping[str, np.ndarray]
) -> Iterator[Slot]:
    priors = spec.resolve_priors(design)
    for h in spec.gate.heads(spec.n_experts):
        given = priors[h.place.coef]
        if likelihood and h.zero_sum:
            given = Prior("ZeroSumNormal", sigma=1.0)
        place, prior = h.placed(given)
        basis = place.mixing
        if basis is None and given.kind.support == "zero-sum":
            basis = helmert(h.rows)
        yield Slot(
            place=h.place,
            predictor=h.predictor,
            variable=h.place.coef,
            block=None,
            parameter=-1,
            experts=tuple(range(h.places.start, h.places.stop)),
            link=Link("identity"),
            basis=basis,
            layout=h.placed(priors[h.place.coef])[0].mixing,
            gain=spec.gate.gain,
            **_internal(h.predictor, h.place, design, design.response, prior, likelihood, own),
        )


def _expert_slots(
    spec: MixtureOfExperts, design: Design, likelihood: bool, own: Mapping[str, np.ndarray]
) -> Iterator[Slot]:
    priors = spec.resolve_priors(design)
    floor = LIKELIHOOD_FLOOR if likelihood else POSTERIOR_FLOOR
    for b, part in enumerate(spec.parts):
        block, response = part.block, part.response(design.rows)
        for p, c in enumerate(block.components):
            role, prior = c.parameter.role, priors[c.variable]
            internal: dict[str, Any] = {"scaling": None, "prior": None if likelihood else prior}
            if c.formula is not None:
                given = (c.predictor, c.place, design, response, prior, likelihood, own)
                internal = _internal(*given)
            yield Slot(
                place=c.place,
                predictor=c.predictor,
                variable=c.variable,
                block=b,
                parameter=p,
                experts=block.positions,
                link=c.parameter.link,
                basis=None,
                floor=math.log(floor * float(np.std(response))) if role == "scale" else -math.inf,
                **internal,
            )


def _internal(
    predictor: Predictor,
    place: Place,
    design: Design,
    response: np.ndarray,
    prior: Prior,
    likelihood: bool,
    own: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """How internal coefficients stand to reported ones and to the sampler's, and their prior."""
    matrix = design.rows.matrices[place.stem]
    scaling = predictor.scaling(place, matrix, response)
    stretch = predictor.spread(place, own, matrix, response, NUMERIC)
    over = prior.over_terms(place.coef, scaling.matrix.terms)
    inner = scaling.raw_prior(over) if stretch is None else over
    return {
        "scaling": scaling,
        "stretch": stretch,
        "prior": None if likelihood else inner,
    }

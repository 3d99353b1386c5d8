"""Experts: k x family x predictors -> components.

Experts with the same description are exchangeable; together they form a :class:`Block`, whose
parameters are arrays over its experts. A model of k equal experts is one block; different kinds
side by side are several, and only experts of the same block may trade labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.samples import Sample
from bayes_moe.core.zero_sum import ZeroSumBasis, zero_sum_basis
from bayes_moe.data.matrix import Matrix, Rows, one_row
from bayes_moe.data.row_counts import RowCount
from bayes_moe.families import Family, Parameter, RowData
from bayes_moe.families.censored import observed_as
from bayes_moe.families.several import Several
from bayes_moe.model.expert import Expert
from bayes_moe.model.measure import equals_any, foreign_atoms, measure_of
from bayes_moe.predictors import Linear, Predictor, Site
from bayes_moe.predictors.random_effects import with_groups
from bayes_moe.priors.defaults import default_constant, role_of
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class Component:
    """One family parameter of a block: its formula, and its predictor at a site."""

    parameter: Parameter
    formula: str | None
    predictor: Predictor
    site: Site

    @property
    def experts(self) -> int:
        """Number of experts; outputs of a parameter with labels are (label, expert)."""
        return self.site.outputs // self.parameter.size

    @property
    def zero_sum(self) -> bool:
        """Whether the coefficients sum to zero over the parameter's numbers by default.

        Coefficients with learned scales, of which each number has its own, do not.
        """
        learned = self.predictor.variables(self.site).hyperparameters
        return role_of(self.parameter.role).zero_sum and not learned

    def site_under(self, prior: Prior | None) -> tuple[Site, Prior | None]:
        """Site of its predictor under a prior, and the prior of the internal coefficients."""
        if prior is None or prior.kind.support != "zero-sum":
            return self.site, prior
        mixing = zero_sum_basis(self.parameter.size, self.experts)
        site = replace(self.site, mixing=mixing, raw_dim=names.direction(self.stem))
        return site, Prior("Normal", **prior.arguments)

    def coords(self, experts: Sequence[Any]) -> dict[str, list[Any]]:
        """Labels along the dimension over a parameter's numbers and experts."""
        labels = self.parameter.labels
        if not labels:
            return {}
        within = [f"{label}, {expert}" for label in labels for expert in experts]
        coords: dict[str, list[Any]] = {self.site.dim: within}
        if self.zero_sum:
            directions = range(len(labels) - 1)
            coords[names.direction(self.stem)] = [f"{j}, {e}" for j in directions for e in experts]
        return coords

    def split(self, eta: Any) -> Any:
        """Predictors (..., output, obs) by number of the parameter: (..., label, expert, obs)."""
        if not self.parameter.labels:
            return eta
        shape = tuple(eta.shape)
        return eta.reshape((*shape[:-2], self.parameter.size, self.experts, shape[-1]))

    @property
    def stem(self) -> str:
        """What the names of its variables begin with."""
        return self.site.stem

    @property
    def variable(self) -> str:
        """Name of the reported variable that every parameter has: a constant, or coefficients."""
        return self.stem if self.formula is None else self.site.coef

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of all its reported variables."""
        if self.formula is None:
            return {self.stem: (self.site.dim,)}
        return self.predictor.variables(self.site).dims

    def internal_dims(self, prior: Prior | None) -> dict[str, tuple[str, ...]]:
        """Dimensions of the sampler's variables that are not reported."""
        if self.formula is None:
            return {}
        return self.predictor.internal_dims(self.site_under(prior)[0])

    @property
    def supports(self) -> dict[str, str]:
        """Supports of those reported variables that are not any real number, by name."""
        if self.formula is None:
            support = self.parameter.link.support
            return {} if support == "real" else {self.stem: support}
        return self.predictor.variables(self.site).supports

    def shapes(self, matrices: Mapping[str, Matrix]) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables."""
        if self.formula is None:
            return {self.stem: (self.site.outputs,)}
        return self.predictor.shapes(self.site.bind(matrices[self.stem]))


@dataclass(frozen=True)
class Block:
    """Experts of one description, by position among all experts of the model.

    ``name`` is None if the model has only this block. ``over`` is the dimension over its experts,
    if it is another than that of a block of its name. At each of the ``atoms``, of which its
    family has none, its density is zero.
    """

    kind: Expert
    positions: tuple[int, ...]
    name: str | None
    over: str | None = None
    atoms: tuple[float, ...] = ()

    @cached_property
    def family(self) -> Family:
        """The family of every expert in the block: of what is known of a censored response."""
        return observed_as(self.kind.family, self.kind.response)

    @property
    def dim(self) -> str:
        """Dimension over the block's experts."""
        default = names.EXPERT if self.name is None else f"{self.name}_{names.EXPERT}"
        return self.over or default

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The family's parameters with their formulas."""
        formulas = dict(self.kind.formulas)
        for location in self.family.locations:
            formulas.setdefault(location, self.kind.right_hand_side)
        chosen = dict(self.kind.predictors)
        return tuple(
            Component(
                p,
                formulas.get(p.name),
                with_groups(chosen.get(p.name, Linear()), formulas.get(p.name)),
                Site(
                    self._stem(p.name),
                    p.role,
                    f"{self.dim}_{p.dim}" if p.labels else self.dim,
                    len(self.positions) * p.size,
                    each=True,
                ),
            )
            for p in self.family.parameters
        )

    def data(self, y: Any, known: Mapping[str, Any], xp: Arrays) -> RowData:
        """Return what the family's formula reads of responses (obs,) and known counts of rows."""
        data = self.family.data(y, known, xp)
        if not self.atoms:
            return data
        if not self.family.is_censored or y.ndim == 1:
            return replace(data, base=xp.where(equals_any(y, self.atoms), -np.inf, data.base))
        atom = equals_any(y[0], self.atoms) & equals_any(y[1], self.atoms) & (y[0] >= y[1])
        return replace(data, base=xp.where(atom, -np.inf, data.base))

    def supports(self, y: np.ndarray, known: Mapping[str, Any]) -> np.ndarray:
        """Whether the experts can have each response (obs,)."""
        return np.broadcast_to(self.data(y, known, NUMERIC).base > -np.inf, y.shape[-1:])

    def log_density(self, y: Any, params: Mapping[str, Any], xp: Arrays) -> Any:
        """Return the log density (..., expert, obs) of ``y`` (obs,) under each expert."""
        etas = self.family.etas(params, xp)
        return self.family.log_density_at(self.data(y, params, xp), etas, xp)

    @property
    def formulas(self) -> dict[str, str]:
        """Formulas by predictor stem."""
        return {c.stem: c.formula for c in self.components if c.formula is not None}

    @property
    def knowns(self) -> tuple[RowCount, ...]:
        """What the family knows of each row."""
        return tuple(RowCount(name, self._stem(name), formula) for name, formula in self.kind.known)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the reported variables."""
        return tuple(dict.fromkeys(name for c in self.components for name in c.dims))

    def default_priors(self, matrices: Mapping[str, Matrix], response: Sample) -> dict[str, Prior]:
        """Return the data-scaled default prior of each reported variable."""
        priors = {}
        for c in self.components:
            own = c.parameter.own(response)
            if c.formula is None:
                default = c.parameter.prior
                priors[c.variable] = default or default_constant(c.parameter.role, own)
            else:
                b = c.site.bind(matrices[c.stem], own)
                if c.variable in c.dims:
                    priors[c.variable] = c.predictor.default_prior(b)
                priors |= c.predictor.variables(c.site).priors(b)
        return priors

    def build(
        self,
        matrices: Mapping[str, Matrix],
        response: Sample,
        priors: Mapping[str, Prior],
        context: GraphContext = CONSTANTS,
    ) -> dict[str, Any]:
        """Create the random variables; return each parameter as (expert, obs) or (expert, 1).

        One with labels is (label, expert, obs).
        What is known of the rows is (1, obs) or (1, 1).
        """
        xp = symbolic_arrays()
        params = {k.name: k.data(matrices, context) for k in self.knowns}
        params |= {
            name: xp.full((len(self.positions), 1), value)
            for name, value in self.family.fixed.items()
        }
        for c in self.components:
            if c.formula is None:
                constant = context.made.get(c.stem)
                if constant is None:
                    constant = priors[c.variable].rv(c.stem, (c.site.dim,), context=context)
                params[c.parameter.name] = c.split(constant[:, None])
            else:
                prior: Any
                # There is no prior without coefficients.
                site, prior = c.site_under(priors.get(c.variable))
                if isinstance(site.mixing, ZeroSumBasis):
                    raise site.mixing.too_large()
                b = site.bind(matrices[c.stem], c.parameter.own(response))
                eta = b.built(c.predictor.build(b, prior, priors, context), context)
                params[c.parameter.name] = c.parameter.link.inverse(c.split(eta), xp)
        return params

    def evaluate(
        self, draws: Mapping[str, np.ndarray], matrices: Mapping[str, Matrix]
    ) -> dict[str, np.ndarray]:
        """Return each parameter (sample, expert, obs), or (sample, expert, 1) if constant.

        What is known of the rows is (obs,) or (1,).
        """
        params: dict[str, np.ndarray] = self.known(matrices)
        if self.family.fixed:
            shape = (len(next(iter(draws.values()))), len(self.positions), 1)
            params |= {name: np.full(shape, v) for name, v in self.family.fixed.items()}
        for c in self.components:
            if c.formula is None:
                params[c.parameter.name] = c.split(draws[c.stem][..., None])
            else:
                matrix = matrices[c.stem]
                if c.parameter.labels and c.predictor.is_linear:
                    matrix = one_row(matrix)
                eta = c.site.bind(matrix).evaluated(c.predictor, draws)
                params[c.parameter.name] = c.parameter.link.inverse(c.split(eta), NUMERIC)
        return params

    def known(
        self, matrices: Mapping[str, Matrix], where: slice | np.ndarray = slice(None)
    ) -> dict[str, np.ndarray]:
        """Counts of some rows by name, each (obs,), or (1,) if it is the same for all."""
        return {k.name: k.values(matrices, where) for k in self.knowns}

    def check_known(self, rows: Rows) -> None:
        """Raise :class:`DataError` if what is known of rows cannot be."""
        for known in self.knowns:
            known.check(rows)

    def _stem(self, name: str) -> str:
        return name if self.name is None else f"{self.name}_{name}"


def margin_of(block: Block, j: int, params: Mapping[str, Any]) -> tuple[Block, dict[str, Any]]:
    """Experts of response ``j`` alone, of several responses, and their parameters."""
    assert isinstance(block.family, Several)
    family, own = block.family.margin(j, params)
    return replace(block, kind=_margin_kind(block.kind, j, family), atoms=()), own


def uncensored(block: Block) -> Block:
    """The block for responses themselves, in place of what is known of them."""
    if not block.family.is_censored:
        return block
    return replace(block, kind=_uncensored_kind(block.kind))


@cache
def _uncensored_kind(kind: Expert) -> Expert:
    """An expert of a response that is observed."""
    return Expert(**kind.to_dict() | {"formula": f"y {kind.right_hand_side}"})


@cache
def _margin_kind(kind: Expert, j: int, family: Family) -> Expert:
    """An expert of response ``j`` alone."""
    known: dict[str, Any] = dict(kind.known)
    return Expert(f"{kind.family.names[j]} ~ 1", family, None, None, None, **known)


def blocks_of(experts: tuple[Expert, ...]) -> tuple[Block, ...]:
    """Group experts of the same kind, in order of first appearance."""
    measure = measure_of([expert.family for expert in experts])
    positions: dict[Expert, list[int]] = {}
    for k, expert in enumerate(experts):
        positions.setdefault(expert.kind, []).append(k)
    if len(positions) == 1:
        return (Block(experts[0].kind, tuple(range(len(experts))), None),)
    return tuple(
        Block(
            kind,
            tuple(where),
            experts[where[0]].name or f"block{j}",
            atoms=foreign_atoms(measure, kind.family),
        )
        for j, (kind, where) in enumerate(positions.items())
    )


def initial_eta(block: Block, rows: Rows) -> np.ndarray:
    """Finite predictor (obs,) of the location from each response; see :class:`Family`.

    Of several responses, (response, obs). It is without offsets of the location.
    In place of a response that the experts cannot have, it is from one that they can.
    """
    y, known = rows.observed, block.known(rows.matrices)
    eta = block.family.initial_eta(_possible(block, y, known), known)
    for parameter, matrix in _locations_with_offset(block, rows.matrices):
        which = np.arange(len(eta)) == parameter.response
        offset = matrix.offset[:, 0]
        eta = eta - (np.where(which[:, None], offset, 0.0) if eta.ndim == 2 else offset)
    return eta


def initial_location(block: Block, location: Parameter, rows: Rows) -> np.ndarray:
    """Predictors (1, obs) or (label, 1, obs) of a location, with its offset: see `initial_eta`."""
    y, known = rows.observed, block.known(rows.matrices)
    possible = _possible(block, y, known)
    if block.family.takes_responses and not location.labels:
        return location.own(block.family.initial_eta(possible, known))[None]
    return block.family.initial_location(possible, known)


def responses_without_offsets(
    block: Block, y: np.ndarray, matrices: Mapping[str, Matrix]
) -> np.ndarray:
    """Responses (obs,) or (response, obs) without what varies by offsets of the locations."""
    for parameter, matrix in _locations_with_offset(block, matrices):
        without = role_of(parameter.role).without
        if without is not None:
            own = without(parameter.own(y), matrix.offset[:, 0] - matrix.level)
            which = np.arange(len(y)) == parameter.response
            y = np.where(which[:, None], own, y) if y.ndim == 2 else own
    return y


def _locations_with_offset(
    block: Block, matrices: Mapping[str, Matrix]
) -> Iterator[tuple[Parameter, Any]]:
    """Locations whose formulas have an offset of one column, with their matrices."""
    for c in block.components:
        if c.formula is not None and c.parameter.name in block.family.locations:
            offset = matrices[c.stem].offset
            if offset is not None and offset.shape[1] == 1:
                yield c.parameter, matrices[c.stem]


def _possible(block: Block, y: np.ndarray, known: Mapping[str, Any]) -> np.ndarray:
    """Responses, the median of those in the support for each outside."""
    inside, y = block.supports(y, known), block.family.plain(y)
    if inside.all() or not inside.any():
        return y
    own = np.sort(y[..., inside])
    return np.where(inside, y, own[..., own.shape[-1] // 2, None])

"""Effects of one group term at one site: their variables, and the factor of their covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.group_terms import GroupColumns, GroupTerm
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable
from bayes_moe.priors.prior import Prior

LKJ = 2.0
"""Argument of the default prior of a correlation matrix."""
FIRST = 0.25
"""First value of a standard deviation, in widths of its prior."""


@dataclass(frozen=True)
class GroupEffects:
    """Effects of a group term at a site; ``position`` is that of the term in the formula."""

    site: Site
    term: GroupTerm
    position: int

    # --- names ------------------------------------------------------------------------------------

    @property
    def stem(self) -> str:
        """What the names of their variables begin with, such as ``mu_id``."""
        return names.part(self.site.stem, self.term.name)

    @property
    def effect(self) -> str:
        """Name of the effects (output, group, term)."""
        return names.part(self.stem, names.EFFECT)

    @property
    def sd(self) -> str:
        """Name of their standard deviations."""
        return names.part(self.stem, names.SD)

    @property
    def corr(self) -> str:
        """Name of their correlations."""
        return names.part(self.stem, names.CORR)

    @property
    def scales(self) -> list[str]:
        """Names of standard deviations and correlations, if there are any."""
        return [self.sd, *([self.corr] if self.term.has_correlations else [])]

    @property
    def dims(self) -> tuple[str, str, str]:
        """Dimensions of the effects."""
        return (self.site.dim, names.part(self.stem, names.EFFECT_GROUP), names.term(self.stem))

    @property
    def internal_dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of the sampler's variable, effects in units of their standard deviations."""
        return {names.raw(self.stem): (*self.dims[1:], self.site.internal_dim)}

    def coords(self, columns: GroupColumns) -> dict[str, list[Any]]:
        """Labels along the dimensions over groups, terms and pairs of terms."""
        labels = {self.dims[1]: list(columns.labels), self.dims[2]: list(columns.terms)}
        if self.term.has_correlations:
            labels[names.part(self.stem, names.PAIR)] = _pairs(columns.terms)
        return labels

    def variables(self) -> list[Variable]:
        """Standard deviations, and correlations if there are any."""

        def columns(b: Binding) -> GroupColumns:
            return b.matrix.groups[self.position]

        def widths(b: Binding) -> np.ndarray:
            return _widths(b, columns(b))

        def pairs(b: Binding) -> int:
            return len(columns(b).terms) * (len(columns(b).terms) - 1) // 2

        lead, shape = self.site.lead, self.site.lead_shape
        sd = Variable(
            self.sd,
            (*lead, self.dims[2]),
            prior=lambda b: Prior("HalfNormal", sigma=tuple(widths(b))),
            initial=lambda b, rng: np.tile(FIRST * widths(b), (*shape, 1)).reshape(*shape, -1),
            positive=True,
        )
        corr = Variable(
            self.corr,
            (*lead, names.part(self.stem, names.PAIR)),
            prior=lambda b: Prior("LKJ", eta=_lkj(len(columns(b).terms))),
            initial=lambda b, rng: np.zeros((*shape, pairs(b))),
            correlation=True,
        )
        return [sd, corr] if self.term.has_correlations else [sd]

    # --- values -----------------------------------------------------------------------------------

    def factor(self, values: Mapping[str, Any]) -> np.ndarray:
        """Lower factor (..., output, term, term) of the covariance of a group's effects.

        There is one output where outputs share it.
        """
        scale = np.asarray(values[self.sd])
        lower = np.eye(scale.shape[-1])
        if self.term.has_correlations:
            lower = lower_factor(np.asarray(values[self.corr]), len(lower), np.stack)
        factor: np.ndarray = scale[..., None] * lower
        return factor if self.site.each else factor[..., None, :, :]

    def eta(self, columns: GroupColumns, effects: np.ndarray) -> Any:
        """Sum (sample, output, obs) of effects (sample, output, group, term) of rows' groups.

        Effects of a group beyond are 0.
        """
        codes, known = columns.codes, columns.codes < effects.shape[-2]
        total: Any = 0.0
        for j in range(len(columns.terms)):
            of_rows = effects[..., np.where(known, codes, 0), j] * columns.values[:, j]
            total = total + (of_rows if known.all() else np.where(known, of_rows, 0.0))
        return total

    def of_internal(self, values: Values) -> np.ndarray:
        """Effects (sample, output, group, term) from the sampler's variable and the scales."""
        raw = np.asarray(values[names.raw(self.stem)])  # (sample, group, term, internal output)
        raw = raw if self.site.mixing is None else np.matmul(raw, self.site.mixing)
        effects: np.ndarray = np.matmul(
            np.moveaxis(raw, -1, 1), np.swapaxes(self.factor(values), -1, -2)
        )
        return effects

    def new(self, draws: Values, zero_sum: bool, seeds: Sequence[Sequence[int]]) -> np.ndarray:
        """Effects (sample, output, group, term) drawn for new groups.

        ``zero_sum`` says whether those of the outputs sum to zero, ``seeds`` are one for each
        group.
        """
        site, factor = self.site, self.factor(draws)
        width = site.outputs if site.mixing is None else len(site.mixing)
        drawn = []
        for seed in seeds:
            rng = np.random.default_rng(list(seed))
            z = rng.standard_normal((len(factor), width, factor.shape[-1]))
            z = z - z.mean(axis=1, keepdims=True) if zero_sum else z
            z = z if site.mixing is None else np.einsum("io,siq->soq", site.mixing, z)
            drawn.append(np.matmul(factor, z[..., None])[..., 0])
        return np.stack(drawn, axis=2)

    # --- in a graph -------------------------------------------------------------------------------

    def variable(
        self, prior: Prior | None, scales: Mapping[str, Any], size: int, context: GraphContext
    ) -> Any:
        """Effects (output, group, term) of so many terms as a variable of the current PyMC model.

        ``prior`` is that of internal coefficients of the site, ``scales`` are standard deviations
        and correlations.
        """
        import pytensor.tensor as pt

        if context.given:
            return context.given_variable(self.effect, self.dims)
        ((name, dims),) = self.internal_dims.items()
        raw = internal_prior(prior).rv(name, dims, context=context.without_pairs)
        raw = raw if self.site.mixing is None else raw @ self.site.mixing
        effects, scale = raw.transpose(2, 0, 1), scales[self.sd]
        if self.term.has_correlations:
            lower = lower_factor(scales[self.corr], size, pt.stack)
            effects = effects @ pt.swapaxes(lower, -1, -2)
        scale = scale[:, None, :] if self.site.each else scale
        return context.report(self.effect, effects * scale, self.dims)

    def graph_eta(self, columns: GroupColumns, effects: Any, context: GraphContext) -> Any:
        """Sum (output, obs) of effects (output, group, term) of each row's group, in a graph."""
        import pytensor.tensor as pt

        codes = context.data(names.part(self.stem, names.CODE), columns.codes)
        design = context.data(names.features(self.stem), columns.values)
        # Numba takes rows of matrices, and leaves other selections to Python.
        outputs, size = effects.shape[0], len(columns.terms)
        by_group = effects.transpose(1, 0, 2).reshape((-1, outputs * size))
        # One more group, whose effects are 0: that of rows whose group no fitted row has.
        every = pt.concatenate([by_group, pt.zeros((1, outputs * size))], axis=0)
        of_rows = every[codes].reshape((-1, outputs, size))
        return (of_rows * design[:, None, :]).sum(axis=-1).T


def internal_prior(prior: Prior | None) -> Prior:
    """Return the prior of the sampler's variable, from that of internal coefficients of the site.

    Effects of the outputs of a gate sum to zero where its coefficients do.
    """
    zero_sum = prior is not None and prior.kind.support == "zero-sum"
    return Prior("ZeroSumNormal", sigma=1.0) if zero_sum else Prior("Normal", mu=0.0, sigma=1.0)


def lower_factor(partial: Any, size: int, stack: Callable[..., Any]) -> Any:
    """Lower Cholesky factor (..., term, term) of a correlation matrix of so many terms.

    ``partial`` (..., pair) are the correlations of each term with the first, and the partial
    correlations of each with every other, given the terms before that; ``stack`` is NumPy's or
    PyTensor's.

    References
    ----------
    Lewandowski, D., Kurowicka, D., & Joe, H. (2009). Generating random correlation matrices based
    on vines and extended onion method. Journal of Multivariate Analysis, 100(9), 1989-2001.
    """
    one = 0.0 * partial[..., 0] + 1.0
    rows, at = [[one, *[0.0 * one] * (size - 1)]], 0
    for i in range(1, size):
        left, row = one, []
        for _ in range(i):
            row.append(partial[..., at] * left**0.5)
            left = left - row[-1] * row[-1]
            at += 1
        rows.append([*row, left**0.5, *[0.0 * one] * (size - 1 - i)])
    return stack([stack(row, axis=-1) for row in rows], axis=-2)


def _pairs(terms: tuple[str, ...]) -> list[str]:
    """Labels of the correlations, those with one term after another; see :func:`lower_factor`."""
    found = []
    for i in range(1, len(terms)):
        for j in range(i):
            given = f" | {', '.join(terms[:j])}" if j else ""
            found.append(f"{terms[j]}, {terms[i]}{given}")
    return found


def _lkj(size: int) -> tuple[float, ...]:
    """Arguments of the partial correlations' priors under which their matrix is ``LKJ(2)``."""
    return tuple(LKJ + 0.5 * (size - 2 - j) for i in range(1, size) for j in range(i))


def _widths(b: Binding, columns: GroupColumns) -> np.ndarray:
    """Widths (term,) of the default priors of the standard deviations, on the user's scale."""
    widths = [b.units.intercept if t == INTERCEPT else b.units.slope for t in columns.terms]
    return b.units.unit * np.array(widths) / columns.scale

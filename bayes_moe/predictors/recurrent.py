"""Recurrent network: ``eta_t = coef_0 + coef h_t``, with ``h_t = cell(h_(t-1), z_t)``.

``z_t`` are the standardised features of a row, the formula's intercept among them, and ``h`` is
zero before the first row of a series. Weights of the cell are one set for each expert, or one for
all outputs of a gate. The compiled loops are in :mod:`bayes_moe.kernels.recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.registry import resolve_path
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis, summed
from bayes_moe.predictors.series import PART, in_parts, previous_rows
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.stepwise import features_of
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

SUMS = {"gru": ("reset", "update", "candidate"), "rnn": ("candidate",)}
"""What a cell has weights of, for each unit."""
SCALES = ("learned", "fixed")
MOST_UNITS = 1000
LEVEL_SD = 2.0
"""Prior standard deviation of the constants of a cell's sums, in units of the learned scale: a
logit of an update gate of ``log(k)`` makes a memory of about ``k`` rows."""
START = 1.0
"""Initial scale of the weights."""
LONGEST = 100.0
"""Longest initial memory of a unit, in rows, on tables that are ten times as long."""


@dataclass(frozen=True)
class Recurrent(Basis):
    r"""Recurrent neural network over the rows of each series.

    With ``z`` the standardised features of a row, ``h`` the state of the row before it in its
    series (0 at the first one), and elementwise products, the state of the row is

    * of ``cell="gru"``, PyTorch's gated recurrent unit,

      .. math::

         r = \sigma(W_r z + U_r h), \quad u = \sigma(W_u z + U_u h), \quad
         c = \tanh(W_c z + r (U_c h + m)), \quad h' = (1 - u) c + u h,

    * of ``cell="rnn"``, ``h' = tanh(W z + U h)``.

    The predictor is ``coef_0 + sum_j coef_j h'_j``. Where it is that of ``mu``: ``mu_input
    (mu_cell, mu_unit, mu_term)`` are the weights ``W`` of reset gate, update gate and candidate,
    those of the intercept their constants; ``mu_recurrent (mu_cell, mu_unit, mu_before)`` are
    ``U``, and ``mu_constant (mu_unit,)`` is ``m``. Plain cells have no dimension ``mu_cell`` and
    no ``m``. Experts have cells of their own, with the dimension ``expert`` first; outputs of a
    gate share one.

    The prior of ``W`` is normal with standard deviation ``mu_decay[0] / sqrt(terms)``, of the
    constants ``2 mu_decay[0]``, and of ``U`` and ``m`` ``mu_decay[1] / sqrt(units)``. ``mu_coef
    (expert, mu_basis)`` have the standard deviation of a linear predictor's slopes divided by
    ``sqrt(units)``, and the intercept its own.

    Parameters
    ----------
    cell : {"gru", "rnn"}
        The cell. Only a GRU remembers over more than some ten rows.
    units : int
        Length of the state.
    scale : {"learned", "fixed"}
        Whether ``mu_decay``, the strength of weight decay of each kind of weights, is learned, with
        the prior ``Gamma(2, 1)``, or is 1.

    Raises
    ------
    SpecError
        For a formula without an intercept, and for a model without ``time``.

    Notes
    -----
    The density does not change when units are permuted, or when a unit's state, and all weights
    from and to it, change sign: chains agree about predictions, and need not about weights.

    References
    ----------
    Cho, K., et al. (2014). Learning phrase representations using RNN encoder-decoder for
    statistical machine translation. EMNLP, 1724-1734.

    Tallec, C., & Ollivier, Y. (2018). Can recurrent neural networks warp time? International
    Conference on Learning Representations. (Initial memories.)
    """

    cell: str = "gru"
    units: int = 8
    scale: str = "learned"

    has_memory: ClassVar[bool] = True
    whole_series: ClassVar[bool] = True
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("cell", self.cell, SUMS)
        check_whole("units", self.units, 1, MOST_UNITS)
        check_one_of("value of `scale`", self.scale, SCALES)
        object.__setattr__(self, "units", int(self.units))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """Name in the registry: that of the cell."""
        return self.cell

    @property
    def sums(self) -> int:
        """Number of sums of inputs for each unit."""
        return len(SUMS[self.cell])

    def labels(self, matrix: Matrix) -> list[str]:
        if matrix.intercept != 0:
            raise SpecError(f"{self!r} needs a formula with an intercept.")
        return [INTERCEPT, *map(str, range(self.units))]

    def features(self, matrix: Matrix) -> np.ndarray:
        """Return standardised features, and positions of the rows before (obs, term + 1)."""
        return np.column_stack([matrix.standardised, previous_rows(matrix, self)])

    def basis(self, matrix: Matrix) -> Matrix:
        labels = tuple(self.labels(matrix))
        # Features depend on weights, so there are no values: only labels are read.
        values = np.ones((len(matrix.values), len(labels)))
        return Matrix(labels, values, np.zeros(len(labels)), np.ones(len(labels)))

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> np.ndarray:
        slope = b.units.slope / np.sqrt(self.units)
        return np.array([b.units.intercept, *[slope] * self.units])

    def phi(self, site: Site, values: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        weights = [values[v.name] for v in self.variables(site) if v.in_basis]
        if xp is not NUMERIC:
            from bayes_moe.predictors.recurrent_op import States

            weights = [w if site.each else w[None] for w in weights]
            shaped = [self._with_sums(w, j) for j, w in enumerate(weights)]
            states: Any = States(self.cell).make_node(features, *shaped).outputs[0]
            return states.swapaxes(1, 2) if site.each else states.squeeze(0).T
        lead, flat = self._copies(site, values)
        z, previous = features[:, :-1], features[:, -1].astype(np.int64)
        found = _states(self.cell, z, previous, flat)
        return np.swapaxes(found, -1, -2).reshape(*lead, self.units, len(z))

    def _copies(self, site: Site, values: Mapping[str, Any]) -> tuple[Any, list[np.ndarray]]:
        """Leading shape of the weights, and these as those of copies of the cell (copy, ...)."""
        weights = [np.asarray(values[v.name]) for v in self.variables(site) if v.in_basis]
        own = [v for v in self.variables(site) if v.in_basis]
        core = [len(v.dims) - len(site.lead) for v in own]
        flat = [
            self._with_sums(w.reshape(-1, *w.shape[w.ndim - rank :]), j)
            for j, (w, rank) in enumerate(zip(weights, core, strict=True))
        ]
        return weights[0].shape[: weights[0].ndim - core[0]], flat

    def steps(self, b: Binding, draws: Values, last: np.ndarray, paths: int) -> _RecurrentSteps:
        features = self.features(b.matrix)
        z, previous = features[:, :-1], features[:, -1].astype(np.int64)
        lead, flat = self._copies(b.site, draws)
        copies = len(flat[0])
        state = np.zeros((copies, len(last), self.units))
        known = last >= 0
        each = max(1, PART // max(1, len(z) * self.units * (self.sums + 2)))
        for start in range(0, copies, each) if known.any() else ():
            some = slice(start, start + each)
            states = _states(self.cell, z, previous, [w[some] for w in flat])
            state[some, known] = states[:, last[known]]
        state = np.repeat(state.reshape(*lead, len(last), self.units), paths, axis=-2)
        weights = [w.reshape(*lead, *w.shape[1:]) for w in flat]
        return _RecurrentSteps(self, b.site, np.asarray(draws[b.site.coef]), weights, state)

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        copies = b.site.outputs if b.site.each else 1
        size = copies * len(b.matrix.values) * self.units * (self.sums + 2)
        return in_parts(super().evaluate, b, draws, tuple(self.variables(b.site).dims), size)

    def _with_sums(self, weights: Any, position: int) -> Any:
        """Weights (copy, ...) with the axis of sums, which a plain cell's lack; constants alike."""
        return weights if self.cell == "gru" or position > 1 else weights[:, None]

    def variables(self, site: Site) -> Variables:
        stem, unit = site.stem, names.part(site.stem, names.UNIT)
        decay = names.part(stem, names.DECAY) if self.scale == "learned" else None
        sums = (names.part(stem, names.CELL),) if self.cell == "gru" else ()
        ends = {
            names.INPUT: ((*sums, unit, names.term(stem)), 0),
            names.RECURRENT: ((*sums, unit, names.part(stem, names.BEFORE)), 1),
        }
        if self.cell == "gru":
            ends[names.CONSTANT] = ((unit,), 1)
        weights = [
            Variable(
                names.part(stem, name),
                (*site.lead, *dims),
                prior=_prior_of(name, self.units),
                initial=_initial_of(name, self),
                in_basis=True,
                identified=False,
                scale=None if decay is None else (decay, position),
            )
            for name, (dims, position) in ends.items()
        ]
        coef = coefficients(site, names.part(stem, names.BASIS), identified=False)
        if decay is None:
            return Variables([coef, *weights])
        scales = Variable(
            decay,
            (names.part(stem, names.LAYER),),
            prior=lambda b: Prior("Gamma", alpha=2.0, beta=1.0),
            initial=lambda b, rng: np.full(2, START),
            positive=True,
        )
        return Variables([coef, *weights, scales])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        stem, units = b.site.stem, list(range(self.units))
        labels = super().coords(b) | {
            names.term(stem): list(b.matrix.terms),
            names.part(stem, names.UNIT): units,
            names.part(stem, names.BEFORE): units,
        }
        if self.cell == "gru":
            labels[names.part(stem, names.CELL)] = list(SUMS["gru"])
        if self.scale == "learned":
            labels[names.part(stem, names.LAYER)] = [names.INPUT, names.RECURRENT]
        return labels

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.cell, "units": self.units, "scale": self.scale}


def _states(
    cell: str, z: np.ndarray, previous: np.ndarray, weights: list[np.ndarray]
) -> np.ndarray:
    """States (copy, obs, unit) of cells with some weights (copy, ...)."""
    run = resolve_path("bayes_moe.kernels.recurrent:states_of")
    found: np.ndarray = run(cell, np.ascontiguousarray(z), previous, *weights)[0]
    return found


class _RecurrentSteps:
    """States (sample, path, unit), or (sample, output, path, unit), of cells on paths."""

    def __init__(
        self,
        net: Recurrent,
        site: Site,
        coef: np.ndarray,
        weights: list[np.ndarray],
        state: np.ndarray,
    ) -> None:
        self.net, self.site, self.coef, self.state = net, site, coef, state
        self.inputs, self.recurrent, *self.constants = weights

    def step(self, matrix: Matrix) -> np.ndarray:
        """See :class:`bayes_moe.predictors.stepwise.Steps`."""
        z, h = features_of(matrix), self.state
        if self.site.each:
            z = z[:, None]
        # As (sample, [output], gate, path, unit): products over short axes, without BLAS.
        read = np.einsum("...pt,...gut->...gpu", z, self.inputs)
        kept = np.einsum("...pv,...guv->...gpu", h, self.recurrent)
        if self.net.cell == "rnn":
            self.state = np.tanh((read + kept)[..., 0, :, :])
        else:
            gates = expit(read[..., :2, :, :] + kept[..., :2, :, :])
            reset, update = gates[..., 0, :, :], gates[..., 1, :, :]
            memory = kept[..., 2, :, :] + self.constants[0][..., None, :]
            candidate = np.tanh(read[..., 2, :, :] + reset * memory)
            self.state = candidate + update * (h - candidate)
        phi = np.swapaxes(self.state, -1, -2)
        return np.asarray(summed(self.net, self.site, self.coef, phi, NUMERIC))


def plain(units: int = 8, scale: str = "learned") -> Recurrent:
    """Return a recurrent network of plain cells, ``h' = tanh(W z + U h)``."""
    return Recurrent("rnn", units, scale)


def _prior_of(name: str, units: int) -> Any:
    """Function from a binding to the default prior of weights, in units of their learned scale."""

    def prior(b: Binding) -> Prior:
        if name != names.INPUT:
            return Prior("Normal", mu=0.0, sigma=float(units**-0.5))
        terms = len(b.matrix.terms)
        return Prior("Normal", mu=0.0, sigma=(LEVEL_SD, *[terms**-0.5] * (terms - 1)))

    return prior


def _initial_of(name: str, net: Recurrent) -> Any:
    """Function from a binding and a random generator to initial weights.

    Units begin with memories of different lengths, of equally many rows on the scale of logarithms:
    by the constants of update gates, or by the weights of plain units' own states.
    """
    units = net.units

    def memories(b: Binding, rng: np.random.Generator) -> np.ndarray:
        longest = float(np.clip(len(b.matrix.values) / 10, 2.0, LONGEST))
        shares: np.ndarray = rng.uniform(size=(*b.site.lead_shape, units))
        return np.asarray(longest**shares)

    def initial(b: Binding, rng: np.random.Generator) -> np.ndarray:
        lead, terms = b.site.lead_shape, len(b.matrix.terms)
        sums = () if net.cell == "rnn" else (net.sums,)
        if name == names.CONSTANT:
            return np.zeros((*lead, units))
        width = terms if name == names.INPUT else units
        drawn = rng.standard_normal((*lead, *sums, units, width)) / np.sqrt(width)
        if name == names.INPUT and net.cell == "gru":
            drawn[..., 1, :, 0] = np.log(memories(b, rng))
        if name == names.RECURRENT and net.cell == "rnn":
            own = np.arange(units)
            drawn *= 0.3
            drawn[..., own, own] = np.exp(-1.0 / memories(b, rng))
        return drawn

    return initial

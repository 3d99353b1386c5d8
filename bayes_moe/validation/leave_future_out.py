"""Leave-future-out scores: the log density of each row given those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html, names, seeds
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import check_whole, is_number
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.progress import progress
from bayes_moe.fitting import fit
from bayes_moe.inference.base import Method, method_of, silent_method
from bayes_moe.inference.importance import pareto_k, smoothed
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.prediction.predict import log_density
from bayes_moe.results.fit import Fit
from bayes_moe.validation.origins import SeriesTable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class LeaveFutureOut:
    """Leave-future-out estimate, made by :func:`lfo`.

    Attributes
    ----------
    elpd : float
        Sum over rows of the log density of each given the rows before it.
    se : float
        Its standard error: the standard deviation over rows, times the root of their number.
    table : pandas.DataFrame
        By row: its time, ``log_score``, the Pareto ``k`` of the weights (NaN in the first rows
        after a fit, which need none), and ``refit``, whether the model was fitted anew before it.
    """

    elpd: float
    se: float
    table: pd.DataFrame

    @property
    def n_fits(self) -> int:
        """How often the model was fitted."""
        return int(self.table.drop_duplicates("moment")["refit"].sum())

    def __repr__(self) -> str:
        k = self.table["k"].max()
        largest = "" if np.isnan(k) else f", largest Pareto k between fits {k:.2f}"
        return (
            f"Leave-future-out: elpd {self.elpd:.1f} (se {self.se:.1f}) of {len(self.table)} rows, "
            f"{self.n_fits} fits{largest}"
        )

    def _repr_html_(self) -> str:
        return html.view(repr(self))


def lfo(
    spec: MixtureOfExperts,
    data: Any,
    *,
    first: int | None = None,
    method: str | Method = "laplace",
    threshold: float | None = 0.7,
    random_seed: int | None = None,
    progressbar: bool = True,
    **settings: Any,
) -> LeaveFutureOut:
    r"""Return the leave-future-out log score of a model: of each row given those before it.

    .. math:: \sum_{t > L} \log p(y_t \mid y_{<t}), \quad
        p(y_t \mid y_{<t}) = \int p(y_t \mid y_{<t}, \theta) \, p(\theta \mid y_{<t}) \, d\theta

    Draws of a fit up to an earlier row are weighted by the densities of the rows since, Pareto
    smoothed; where the largest weights are too uneven (Pareto k above ``threshold``) the model is
    fitted anew. Unlike leave-one-out, a row is not predicted from later ones.

    Parameters
    ----------
    spec : MixtureOfExperts
        A model with ``time`` and one numeric response.
    data : table
        All rows. Of several series, rows of the same time are predicted from all earlier ones.
    first : int, optional
        ``L``, the number of times that the first fit knows; by default half of them.
    method : str or Method
        As for :func:`fit`, whose ``**settings`` follow. It must give draws.
    threshold : float or None
        Pareto k from which the model is fitted again; None: before each time, which is exact but
        for the method's own error, and takes as many fits.
    random_seed : int, optional
        The same seed gives the same figures.
    progressbar : bool
        Whether to show how many times are finished.

    Returns
    -------
    LeaveFutureOut
        With ``elpd``, ``se`` and ``table``.

    Raises
    ------
    SpecError
        For a model without ``time``, a method that gives a single mode, and settings that cannot
        be.
    DataError
        As :func:`fit` and :func:`log_density` do, and for series of which no row is known to the
        first fit.

    References
    ----------
    Bürkner, P.-C., Gabry, J., & Vehtari, A. (2020). Approximate leave-future-out cross-validation
    for Bayesian time series models. Journal of Statistical Computation and Simulation, 90(14),
    2499-2523.
    """
    if not isinstance(spec, MixtureOfExperts):
        raise SpecError(f"`spec` must be a MixtureOfExperts, got {type(spec).__name__}.")
    if threshold is not None and (not is_number(threshold) or not threshold > 0):
        raise SpecError(f"`threshold` must be a positive number or None; it is {threshold!r}.")
    chosen, seed = silent_method(method_of(method, settings)), seeds.resolve(random_seed)
    rows = SeriesTable.read(spec, data)
    moments = np.unique(rows.times)
    known = len(moments) // 2 if first is None else first
    check_whole("first", known, 1, len(moments) - 1)
    _check_known(rows, moments[known])
    run = _Run(spec, rows, chosen, threshold, seed)
    found: list[_Scored] = []
    with progress("Leave-future-out", shown=progressbar) as update:
        for at in range(known, len(moments)):
            update(at - known, len(moments) - known)
            found.append(run.scored(moments[at]))
    return _result(rows, found)


def _check_known(rows: SeriesTable, moment: float) -> None:
    """Raise :class:`DataError` unless each series has a row before the first that is scored."""
    for number, positions in enumerate(rows.positions):
        if not rows.times[positions[0]] < moment:
            raise DataError(
                f"{rows.name(number)} begins at row {positions[0]}, after the first fit: give a "
                "larger `first`, or leave the series out."
            )


@dataclass(frozen=True)
class _Scored:
    """Positions and log scores (row,) of the rows at one moment, Pareto k, and whether refitted."""

    positions: np.ndarray
    scores: np.ndarray
    k: float
    refit: bool


@dataclass
class _Run:
    """The last fit, with its log densities of all later rows, moment after moment."""

    spec: MixtureOfExperts
    rows: SeriesTable
    method: Method
    threshold: float | None
    seed: int
    later: np.ndarray | None = None
    density: np.ndarray | None = None
    weight: np.ndarray | None = None
    """Positions of rows after the fit; log densities (sample, row); log weights (sample,)."""

    def scored(self, moment: float) -> _Scored:
        """Scores of the rows at a moment given all before, which become known then."""
        k, refit = np.nan, self.weight is None or self.threshold is None
        if not refit:
            assert self.weight is not None
            k = pareto_k(self.weight) if self.weight.any() else np.nan
            # No k: too few draws to tell, so that weights cannot be trusted.
            refit = bool(self.weight.any()) and not k <= (self.threshold or 0.0)
        if refit:
            self._fit(moment)
            k = np.nan
        assert self.later is not None
        assert self.density is not None
        assert self.weight is not None
        here = self.rows.times[self.later] == moment
        now = self.density[:, here]
        share = smoothed(self.weight) if self.weight.any() else np.full(len(now), 1 / len(now))
        with np.errstate(divide="ignore"):
            scores = NUMERIC.logsumexp(now + np.log(share)[:, None], axis=0)
        self.weight = self.weight + now.sum(axis=1)
        return _Scored(self.later[here], scores, float(k), refit)

    def _fit(self, moment: float) -> None:
        """Fit to the rows before a moment."""
        before = np.flatnonzero(self.rows.times < moment)
        later = np.flatnonzero(self.rows.times >= moment)
        seed = int(np.random.SeedSequence([self.seed, len(before)]).generate_state(1)[0])
        table = self.rows.table
        known: Fit = fit(
            self.spec, table.iloc[before], self.method, random_seed=seed, log_likelihood=False
        )
        if known.is_point:
            raise SpecError(
                f"method={self.method.name!r} gives a single mode, which has no weights and leaves "
                "the uncertainty of the parameters out: use method='laplace' or 'nuts'."
            )
        values = log_density(known, table.iloc[later]).transpose(..., names.OBS).values
        self.later, self.density = later, values.reshape(-1, len(later))
        self.weight = np.zeros(len(self.density))


def _result(rows: SeriesTable, found: list[_Scored]) -> LeaveFutureOut:
    import pandas as pd

    positions = np.concatenate([each.positions for each in found])
    counts = [len(each.positions) for each in found]
    scores = np.concatenate([each.scores for each in found])
    columns: dict[str, Any] = {rows.time: rows.table[rows.time].iloc[positions].to_numpy()}
    if rows.series is not None:
        columns[rows.series] = rows.table[rows.series].iloc[positions].to_numpy()
    columns |= {
        "moment": np.repeat(np.arange(len(found)), counts),
        "log_score": scores,
        "k": np.repeat([each.k for each in found], counts),
        "refit": np.repeat([each.refit for each in found], counts),
    }
    table = pd.DataFrame(columns, index=pd.Index(positions, name="row"))
    n = len(scores)
    se = float(np.sqrt(n) * scores.std(ddof=1)) if n > 1 else np.nan
    return LeaveFutureOut(float(scores.sum()), se, table)

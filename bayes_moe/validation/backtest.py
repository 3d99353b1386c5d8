"""Backtest of a model: forecasts from rolling origins, scored beside seasonal naive ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.data.sequences import Sequences
from bayes_moe.data.time_steps import DAY, series_steps
from bayes_moe.diagnostics.backtest_table import (
    FORECAST,
    MODEL,
    NAIVE,
    ORIGIN,
    SERIES,
    STEP,
    Backtest,
)
from bayes_moe.fitting import fit
from bayes_moe.inference.base import Method, method_of, silent_method
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.fit import Fit
from bayes_moe.validation.model_forecasts import model_forecasts
from bayes_moe.validation.origins import Origin, SeriesTable, rolling_origins
from bayes_moe.validation.step_forecasts import StepForecast, normal, scales, seasonal_naive
from bayes_moe.validation.stored_origins import StoredOrigins, digest, table_digest

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DIMS = {2: (ORIGIN, SERIES), 3: (ORIGIN, SERIES, STEP), 4: (ORIGIN, FORECAST, SERIES, STEP)}
"""Dimensions of scales, of what came, and of figures of forecasts, by their number."""


def backtest(
    spec: MixtureOfExperts,
    data: Any,
    *,
    horizon: int,
    origins: int = 20,
    step: int | None = None,
    method: str | Method = "em",
    season: int | str | None = None,
    refit: bool | int = True,
    path: Any = None,
    random_seed: int | None = None,
    progressbar: bool = True,
    **settings: Any,
) -> Backtest:
    """Forecast from rolling origins and score the forecasts, beside seasonal naive ones.

    From each origin the model is fitted to the rows up to it, and forecasts the next ones of each
    series. Features of the rows ahead, other than lags, are taken from the table: they are known in
    advance, or the backtest is of forecasts that know them.

    Parameters
    ----------
    spec : MixtureOfExperts
        A model with ``time`` and one numeric response.
    data : table
        All rows, also those that are forecast.
    horizon : int
        Steps ahead of each origin.
    origins : int
        Number of origins, the last ones of the table that have ``horizon`` steps ahead.
    step : int, optional
        Steps from one origin to the next; by default ``horizon``, so that no row is forecast twice.
    method : str or Method
        As for :func:`fit`, whose ``**settings`` follow. A single mode (``"em"``, ``"map"``) leaves
        the uncertainty of the parameters out of the intervals; ``"laplace"`` has it.
    season : int or str, optional
        Steps of a season, of the naive forecasts and of the scales of MASE and RMSSE; or its length
        in time, such as ``"7D"``, or ``"1Y"`` of months and quarters. By default 1: the naive
        forecast is the last value.
    refit : bool or int
        True: fit at each origin. A number ``n``: at each ``n``-th. False: at the first only.
        Between fits the posterior stays, and lags and states go on with the rows that have become
        known.
    path : path, optional
        File in which figures of finished origins are kept. The same call goes on where an
        interrupted one was.
    random_seed : int, optional
        The same seed gives the same figures, whether or not a run was interrupted.
    progressbar : bool
        Whether to show how many origins are finished.

    Returns
    -------
    Backtest
        With ``summary``, ``table`` (by step), ``scores(by)`` and all figures in ``results``.

    Raises
    ------
    SpecError
        For a model without ``time``, a response that is no number, settings that cannot be, a
        ``path`` with another backtest, and ``refit`` other than True for a model whose columns
        depend on the fitted table.
    DataError
        For series that are too short for an origin, with their names and rows.

    References
    ----------
    Tashman, L. J. (2000). Out-of-sample tests of forecasting accuracy: an analysis and review.
    International Journal of Forecasting, 16(4), 437-450.
    """
    if not isinstance(spec, MixtureOfExperts):
        raise SpecError(f"`spec` must be a MixtureOfExperts, got {type(spec).__name__}.")
    check_whole("horizon", horizon, 1)
    check_whole("origins", origins, 1)
    apart = horizon if step is None else step
    check_whole("step", apart, 1)
    every = _refits_every(refit, origins)
    chosen = silent_method(method_of(method, settings))
    rows = SeriesTable.read(spec, data)
    length = _season(season, rows)
    cuts = rolling_origins(rows, horizon, origins, apart, length + 2)
    asked = {
        "horizon": horizon,
        "origins": origins,
        "step": apart,
        "season": length,
        "refit": every,
        "method": [type(chosen).__name__, str(chosen)],
    }
    parts = {"model": digest(spec.to_dict()), "table": table_digest(rows.table)}
    marks = parts | {"setting": digest(asked)}
    stored = StoredOrigins.open(path, marks, random_seed)
    run = _Run(spec, rows, chosen, length, every, stored.seed)
    with progress("Backtest", shown=progressbar) as update:
        for number, cut in enumerate(cuts):
            update(number, len(cuts))
            if number not in stored.finished:
                stored.add(number, run.figures(number, cut, cuts))
        update(len(cuts), len(cuts))
    return Backtest(_results(rows, cuts, stored.finished), length, spec.response)


def _refits_every(refit: Any, origins: int) -> int:
    """Number of origins from one fit to the next."""
    if refit is True:
        return 1
    if refit is False:
        return origins
    check_whole("refit", refit, 1)
    return int(refit)


def _season(season: Any, rows: SeriesTable) -> int:
    """Steps of a season, also of one that is given as a length in time.

    Raises
    ------
    SpecError
        For anything but whole numbers and lengths that are a whole number of steps.
    """
    if season is None:
        return 1
    if not isinstance(season, str):
        check_whole("season", season, 1)
        return int(season)
    steps = _in_steps(season, rows)
    if not steps >= 1 or abs(steps - round(steps)) > 1e-6:
        raise SpecError(
            f"The season {season!r} is no whole number of steps of {rows.time!r}, one or more: "
            "give their number."
        )
    return round(steps)


def _in_steps(season: str, rows: SeriesTable) -> float:
    """Steps of the first series that a length in time has; NaN if this is not known.

    Years have twelve months, and weeks five business days.

    Raises
    ------
    SpecError
        For a text that is no length in time.
    """
    import pandas as pd

    column = rows.table[rows.time].iloc[rows.positions[0]].reset_index(drop=True)
    step = series_steps(column, Sequences.of(None, len(column)))[0]
    years = season.strip().upper().removesuffix("Y")
    if season.strip().upper().endswith("Y") and years.isdecimal():
        return 12 * int(years) / step.size if step and step.unit == "month" else np.nan
    try:
        days = pd.Timedelta(season).total_seconds() / DAY
    except ValueError as error:
        raise SpecError(
            f"`season` must be a number of steps, or a length in time such as '7D', or '1Y' of "
            f"monthly times; it is {season!r}."
        ) from error
    sizes = {"second": 1 / DAY, "day": 1.0, "business day": 7 / 5}
    if step is None or step.unit not in sizes:
        return np.nan
    if step.unit == "business day" and days % 7:
        return np.nan
    return float(days / (sizes[step.unit] * step.size))


@dataclass
class _Run:
    """Fits and forecasts origin by origin, with the fit that the next origins may keep."""

    spec: MixtureOfExperts
    rows: SeriesTable
    method: Method
    season: int
    every: int
    seed: int
    fitted_at: int | None = None
    fit: Fit | None = None

    def figures(self, number: int, cut: Origin, cuts: list[Origin]) -> dict[str, np.ndarray]:
        """Figures (forecast, series, step) of an origin, with ``y`` (series, step) and scales."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        y = self.rows.response[cut.ahead]
        known = self._fit_at(number, cut, cuts)
        ours = model_forecasts(known, self.rows, cut, y, seed)
        histories = [self.rows.response[positions] for positions in cut.histories]
        naive = [
            normal(came, *seasonal_naive(history, self.season, len(came)))
            for came, history in zip(y, histories, strict=True)
        ]
        absolute, squared = zip(*(scales(h, self.season) for h in histories), strict=True)
        return _stacked(ours, naive) | {
            "y": y,
            "absolute_scale": np.array(absolute),
            "squared_scale": np.array(squared),
        }

    def _fit_at(self, number: int, cut: Origin, cuts: list[Origin]) -> Fit:
        """Fit that knows the rows of an origin, its posterior from the last origin that refits."""
        start = number - number % self.every
        if self.fit is None or self.fitted_at != start:
            seed = int(np.random.SeedSequence([self.seed, start, 1]).generate_state(1)[0])
            table = self.rows.table.iloc[cuts[start].known]
            self.fit = fit(self.spec, table, self.method, random_seed=seed, log_likelihood=False)
            self.fitted_at = start
        return self.fit if start == number else continued(self.fit, self.rows.table.iloc[cut.known])


def continued(known: Fit, table: Any) -> Fit:
    """The same posterior with more rows: a fit whose lags and states have read these too.

    Raises
    ------
    SpecError
        For a model whose columns depend on the fitted table, so that its coefficients would mean
        something else beside another one.
    """
    longer = known.spec.design(table)
    if not _same_columns(known.spec, known.design, longer):
        raise SpecError(
            "The model's columns depend on the rows that it was fitted to (splines, trends, "
            "categories, texts, networks), so that its posterior cannot go on with others: "
            "backtest it with refit=True."
        )
    return replace(known, design=longer)


def _same_columns(spec: MixtureOfExperts, design: Design, longer: Design) -> bool:
    """Whether coefficients mean the same in the design of a table with more rows.

    Predictors have to be linear, and their columns equal in the rows of both. What is shared or
    held is so in reported values, which the rows do not change.
    """
    linear = all(predictor.portable for _, predictor in spec.structure.sites)
    if not linear or design.depends_on_rows(names.RESPONSE):
        return False
    ours, theirs = (_when(each) for each in (design, longer))
    at = theirs.get_indexer(ours)
    pairs = [(design.rows.matrices[stem], longer.rows.matrices[stem]) for stem in design.formulas]
    return bool((at >= 0).all()) and all(
        one.terms == other.terms and not one.groups and np.array_equal(one.values, other.values[at])
        for one, other in pairs
    )


def _when(design: Design) -> pd.MultiIndex:
    """Series and time of each row."""
    import pandas as pd

    seen = design.rows.observation
    series = np.zeros(design.rows.size) if seen.series is None else seen.series
    assert seen.time is not None  # of a model with times
    return pd.MultiIndex.from_arrays([series, seen.time])


def _stacked(ours: list[StepForecast], naive: list[StepForecast]) -> dict[str, np.ndarray]:
    """Figures (forecast, series, step) by name."""
    both = [[each.figures for each in forecasts] for forecasts in (ours, naive)]
    return {
        name: np.array([[figures[name] for figures in forecasts] for forecasts in both])
        for name in both[0][0]
    }


def _results(
    rows: SeriesTable, cuts: list[Origin], finished: Mapping[int, Mapping[str, Any]]
) -> xr.Dataset:
    """Figures of all origins with their labels."""
    import pandas as pd
    import xarray as xr

    arrays = {
        name: np.array([finished[i][name] for i in range(len(cuts))], dtype=float)
        for name in finished[0]
    }
    times = np.array([rows.table[rows.time].to_numpy()[cut.ahead] for cut in cuts])
    return xr.Dataset(
        {name: (DIMS[values.ndim], values) for name, values in arrays.items()},
        coords={
            ORIGIN: pd.Series([cut.time for cut in cuts]).to_numpy(),
            SERIES: np.array(rows.labels),
            STEP: np.arange(1, times.shape[-1] + 1),
            FORECAST: [MODEL, NAIVE],
            "time": ((ORIGIN, SERIES, STEP), times),
        },
    )

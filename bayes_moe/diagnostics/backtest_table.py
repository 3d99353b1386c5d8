"""Result of a backtest: scores of forecasts by step, beside those of seasonal naive ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import html
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

MODEL, NAIVE = "model", "seasonal naive"
FORECAST, ORIGIN, SERIES, STEP = "forecast", "origin", "series", "step"
LEVELS = (0.8, 0.95)
"""Probabilities of the intervals that are scored."""

BY = (STEP, ORIGIN, SERIES)


def interval_names(level: float) -> tuple[str, str]:
    """Names of the variables with the ends of the interval of a probability."""
    return f"lower_{level:.0%}".rstrip("%"), f"upper_{level:.0%}".rstrip("%")


@dataclass(frozen=True, repr=False, eq=False)
class Backtest:
    """Forecasts from rolling origins with their scores, made by :func:`backtest`.

    Printing it prints the summary.

    Attributes
    ----------
    results : xarray.Dataset
        By ``forecast`` ("model" or "seasonal naive"), ``origin``, ``series`` and ``step``: ``mean``
        and ``median``, ``lower_80``, ``upper_80``, ``lower_95`` and ``upper_95`` of the predictive
        distributions, ``crps`` and ``log_score``, the log density of what came, which is ``y``
        (origin, series, step) at ``time``. ``absolute_scale`` and ``squared_scale`` (origin,
        series) are the denominators of MASE and RMSSE, from the rows before the origin. Origins
        are named by the time of the last row that the forecasts may know.
    season : int
        Steps of a season, of the scales and of the naive forecasts.
    response : str
        What is forecast; a response term such as ``log(y)`` is scored on its own scale.
    """

    results: xr.Dataset
    season: int
    response: str

    @property
    def summary(self) -> pd.DataFrame:
        """Scores (forecast, score) over all origins, series and steps."""
        return self.scores()

    @property
    def table(self) -> pd.DataFrame:
        """Scores by step: lines (step, forecast)."""
        return self.scores(STEP)

    def scores(
        self, by: str | None = None, *, first: int = 1, last: int | None = None
    ) -> pd.DataFrame:
        r"""Return scores of the model's forecasts and of the seasonal naive ones.

        Parameters
        ----------
        by : {"step", "origin", "series"}, optional
            Lines for each of these; by default one for all.
        first, last : int
            Steps that count; by default all.

        Returns
        -------
        pandas.DataFrame
            Lines by forecast, within ``by``. With ``e`` the errors of the medians (MASE) and means
            (RMSSE) and ``s`` the scales of their origin and series:

            * ``MASE``, the mean of ``|e| / s``, ``s`` the mean absolute seasonal difference;
            * ``RMSSE``, the root of the mean of ``e^2 / s``, ``s`` the mean squared one;
            * ``CRPS``, the mean continuous ranked probability score, in units of the response;
            * ``log_score``, the mean log predictive density of what came, the larger the better;
            * ``coverage_80``, ``coverage_95``: shares of values in the equal-tailed intervals;
            * ``n``, how many values these are means of.

        Raises
        ------
        SpecError
            For an unknown ``by``, and steps that the forecasts do not have.

        References
        ----------
        Hyndman, R. J., & Koehler, A. B. (2006). Another look at measures of forecast accuracy.
        International Journal of Forecasting, 22(4), 679-688.
        """
        import pandas as pd

        if by is not None:
            check_one_of("`by`", by, BY)
        part = self.results.sel({STEP: self._steps(first, last)})
        over = [dim for dim in (ORIGIN, SERIES, STEP) if dim != by]
        means = _each(part).mean(over)
        figures = {str(name): means[name] for name in means.data_vars}
        figures["RMSSE"] = figures["RMSSE"] ** 0.5
        columns = {
            name: values.transpose(*([] if by is None else [by]), FORECAST).values.ravel()
            for name, values in figures.items()
        }
        columns["n"] = np.full(
            len(columns["MASE"]), int(np.prod([part.sizes[dim] for dim in over]))
        )
        forecasts = [*part[FORECAST].values]
        if by is None:
            return pd.DataFrame(columns, index=pd.Index(forecasts, name=FORECAST))
        lines = pd.MultiIndex.from_product([part[by].values, forecasts], names=[by, FORECAST])
        return pd.DataFrame(columns, index=lines)

    def _steps(self, first: int, last: int | None) -> slice:
        most = self.results.sizes[STEP]
        check_whole("first", first, 1, most)
        if last is not None:
            check_whole("last", last, 1, most)
        end = most if last is None else last
        if end < first:
            raise SpecError(f"`last` must be at least `first`, {first}; it is {end}.")
        return slice(first, end)

    def __repr__(self) -> str:
        return f"{self._title}\n\n{self.summary.to_string(float_format='{:.4g}'.format)}"

    def _repr_html_(self) -> str:
        """What is forecast, and the summary, for notebooks."""
        rows = [
            (name, *(f"{value:.4g}" for value in line)) for name, line in self.summary.iterrows()
        ]
        return html.view(self._title, html.table([FORECAST, *self.summary.columns], rows))

    @property
    def _title(self) -> str:
        sizes: Any = self.results.sizes
        several = f" of {sizes[SERIES]} series" if sizes[SERIES] > 1 else ""
        return (
            f"Backtest of {self.response!r}: forecasts{several} for {sizes[STEP]} steps from "
            f"{sizes[ORIGIN]} origins, season of {self.season}"
        )


def _each(results: xr.Dataset) -> xr.Dataset:
    """What the scores are means of, for each forecast value."""
    import xarray as xr

    y = results["y"]
    values = {
        "MASE": np.abs(y - results["median"]) / results["absolute_scale"],
        "RMSSE": (y - results["mean"]) ** 2 / results["squared_scale"],
        "CRPS": results["crps"],
        "log_score": results["log_score"],
    }
    for level in LEVELS:
        lower, upper = (results[name] for name in interval_names(level))
        values[f"coverage_{level:.0%}".rstrip("%")] = ((lower <= y) & (y <= upper)).astype(float)
    return xr.Dataset(values)

"""Given densities: of forecasts that were made elsewhere, one column of log densities each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.random import Generator

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size

LOG_DENSITY = "log_density"
"""What is known of each row."""

ONLY_DENSITIES = (
    "Of an expert of family 'given' only the log density of each row's own response is known, so "
    "there are no {what}. What the table's columns allow: bm.log_density, bm.responsibilities, "
    "bm.predict(...).weights()."
)


@dataclass(frozen=True)
class Given(Family):
    """A forecast with known densities, of other models: a column has the log density of each row.

    The expert has no parameters: ``bm.Expert("y", "given", log_density="column")``. A softmax gate
    over several of them is the stacking of forecasts with weights that depend on features
    (Yao et al. 2022), with ``"~ 1"`` a linear pool with constant weights:

        p(y_i | x_i) = sum_k w_k(x_i) exp(column_k[i])

    The responses of rows are not read; log densities are those of the response in the same row,
    also of new rows. Means, quantiles and draws are refused: they need more than one density a row.

    Parameters
    ----------
    discrete : bool
        Whether the columns are log probabilities, as of words and counts, not log densities. By
        this it is known which experts of other families may be beside it.

    References
    ----------
    Yao, Pirš, Vehtari and Gelman (2022). Bayesian hierarchical stacking: some models are
    (somewhere) useful. Bayesian Analysis 17(4), 1043-1071.
    """

    kind = "given"
    known_counts = (LOG_DENSITY,)
    stands_alone = True
    discrete: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.discrete, bool):
            raise SpecError(f"`discrete` must be True or False; it is {self.discrete!r}.")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    @property
    def fixed(self) -> Mapping[str, float]:
        return {"given": 0.0}

    def row(self, m: Any) -> Callable[..., Any]:
        return lambda t, u, base, eta: base + 0.0 * eta

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return RowData(0.0, 0.0, known[LOG_DENSITY] + 0.0 * y)  # one number is that of every row

    def check_variation(self, y: np.ndarray, name: str, known: Parameters) -> None:
        """Nothing: responses are not read."""

    def beside(self, at: int, known: Parameters) -> str:
        values = known[LOG_DENSITY]
        return f", where the log density is {values[at if len(values) > 1 else 0]:g}"

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt
        from pytensor.raise_op import CheckAndRaise

        zero = pt.zeros_like(params["given"] + params[LOG_DENSITY])
        refused = CheckAndRaise(SpecError, ONLY_DENSITIES.format(what="draws"))
        return pm.DiracDelta.dist(refused(zero, pt.any(zero < 0)))  # raises whenever it is drawn

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        refuse("probabilities of intervals, and no quantiles")

    sf = cdf

    def location(self, params: Parameters) -> np.ndarray:
        """NaN: it is not known, and experts of other columns are never exchangeable."""
        return params["given"] + np.full_like(params[LOG_DENSITY], np.nan)

    scale = location

    def mean(self, params: Parameters) -> np.ndarray:
        refuse("means")

    variance = mean

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        refuse("draws")


def refuse(what: str) -> NoReturn:
    """Raise the :class:`SpecError` of a quantity that densities of single responses do not give."""
    raise SpecError(ONLY_DENSITIES.format(what=what))

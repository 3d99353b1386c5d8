"""Matrix and Rows: design matrices and response of a set of rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.formulas import INTERCEPT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Matrix:
    """Features of one predictor, for one set of rows.

    ``values`` (obs, term) are on the user's scale. ``center`` and ``scale`` (term,) belong to
    the rows that the model was fitted to: ``standardised`` is ``(values - center) / scale``.
    ``span`` holds their least and largest values (term,); by default those of ``values``.
    """

    terms: tuple[str, ...]
    values: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    span: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values (term,) of the fitted rows."""
        if self.span is not None:
            return self.span
        return np.nanmin(self.values, axis=0), np.nanmax(self.values, axis=0)

    def at(self, values: np.ndarray) -> Matrix:
        """Matrix of other rows ``values`` (obs, term), with the fitted centre, scale and span."""
        return replace(self, values=values, span=self.range)

    @property
    def intercept(self) -> int | None:
        """Position of the intercept among the terms, or None."""
        return self.terms.index(INTERCEPT) if INTERCEPT in self.terms else None

    @property
    def standardised(self) -> np.ndarray:
        """Centred and scaled features (obs, term)."""
        return (self.values - self.center) / self.scale

    @property
    def to_user(self) -> np.ndarray:
        """Matrix (term, term) that takes coefficients of ``standardised`` to those of ``values``.

        ``beta = raw @ to_user``: slopes are divided by their scale, and the intercept changes by
        the slopes times the centre.
        """
        linear = np.diag(1 / self.scale)
        if self.intercept is not None:
            linear[:, self.intercept] -= self.center / self.scale
        return linear


@dataclass(frozen=True)
class Rows:
    """Rows of a table as a model uses them: design matrices by stem, labels, columns, response.

    ``obs_id`` (obs,) are positions in the table, and ``index`` (obs,) the user's own labels of the
    rows, if the table has any. ``response`` is (obs,), or (response, obs) of several responses.
    """

    matrices: Mapping[str, Matrix]
    obs_id: np.ndarray
    columns: Any
    response: np.ndarray | None = None
    index: pd.Index | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.obs_id)

    @property
    def observed(self) -> np.ndarray:
        """Response (obs,), or (response, obs) of several; DataError for rows without one."""
        if self.response is None:
            raise DataError("These rows have no response.")
        return self.response

    def pick(self, which: slice | np.ndarray) -> Rows:
        """Rows at some positions."""
        matrices = {stem: m.at(m.values[which]) for stem, m in self.matrices.items()}
        response = None if self.response is None else self.response[..., which]
        index = None if self.index is None else self.index[which]
        return Rows(matrices, self.obs_id[which], self.columns.iloc[which], response, index)


def design_matrix(values: np.ndarray, terms: tuple[str, ...], center: bool) -> Matrix:
    """Matrix of a formula's values (obs, term), with the centre and scale of each term."""
    has_intercept = INTERCEPT in terms
    free = np.array([t != INTERCEPT for t in terms])
    absent = np.isnan(values)
    # Masked arrays sum in another order, so they are used only where values are missing.
    if absent.any():
        observed = np.ma.masked_array(values, absent)
        mean, sd = observed.mean(axis=0).data, observed.std(axis=0).data
        root_mean_square = np.sqrt((observed**2).mean(axis=0).data)
    else:
        mean, sd = values.mean(axis=0), values.std(axis=0)
        root_mean_square = np.sqrt(np.mean(values**2, axis=0))
    centre = np.where(free & has_intercept & center, mean, 0.0)
    scale = np.where(free, sd if has_intercept else root_mean_square, 1.0)
    span = (np.nanmin(values, axis=0), np.nanmax(values, axis=0))
    return Matrix(terms, values, centre, scale, span)

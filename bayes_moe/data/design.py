"""Formula + table -> Design: matrices, response, terms, scaling; the same recipe for new rows.

Formulas are formulaic's. A design remembers the columns it was made from, so it can be remade
exactly from its formulas and its table: that is how a saved fit comes back without pickle.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, MissingRowsWarning, SpecError, unknown
from bayes_moe.data.formulas import INTERCEPT, FittedFormula, looked_up, used_columns
from bayes_moe.data.tables import (
    ROUNDING,
    check_known,
    check_size,
    complete_rows,
    gaps,
    kind,
    listed,
    plain,
    to_pandas,
)

if TYPE_CHECKING:
    import pandas as pd


MISSING = ("raise", "drop", "model")
"""What can be done with rows that have missing values."""
_DROP = ", or pass missing='drop' to fit"


@dataclass(frozen=True)
class Matrix:
    """The features of one linear predictor, for one set of rows.

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
        """Return the features of other rows, on the user's scale, for the same fit."""
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

        ``beta = raw @ to_user``: slopes are divided by their scale, and what centring took out
        goes back into the intercept.
        """
        linear = np.diag(1 / self.scale)
        if self.intercept is not None:
            linear[:, self.intercept] -= self.center / self.scale
        return linear


@dataclass(frozen=True)
class Rows:
    """New rows seen through a design: matrices by predictor, row labels, perhaps a response."""

    matrices: Mapping[str, Matrix]
    obs_id: np.ndarray
    columns: Any
    response: np.ndarray | None = None

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.obs_id)

    @property
    def observed(self) -> np.ndarray:
        """The response (obs,) of rows that have one."""
        if self.response is None:
            raise DataError("These rows have no response.")
        return self.response

    def pick(self, which: slice | np.ndarray) -> Rows:
        """Return some of the rows, by position."""
        matrices = {stem: m.at(m.values[which]) for stem, m in self.matrices.items()}
        response = None if self.response is None else self.response[which]
        return Rows(matrices, self.obs_id[which], self.columns.iloc[which], response)


@dataclass(frozen=True)
class Design:
    """A table seen through the formulas of a model.

    Attributes
    ----------
    rows : Rows
        The rows the model is fitted to, with their response.
    response_term : str
        Left-hand side of the formula: a column, or an expression such as ``log(y)``.
    formulas : mapping of str to str
        Right-hand side by predictor stem (``"gate"``, ``"mu"``, ...).
    n_dropped : int
        Rows left out because of missing values (only with ``missing="drop"``).
    may_miss : mapping of str to str or None
        Columns that the gate models, and why their missing values cannot be integrated out; None
        where they can.
    """

    rows: Rows
    response_term: str
    formulas: Mapping[str, str]
    center: bool
    n_dropped: int
    _seen: Mapping[str, FittedFormula]
    may_miss: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def from_data(
        cls,
        response: str | None,
        formulas: Mapping[str, str],
        data: Any,
        *,
        missing: str = "raise",
        center: bool = True,
        obs_id: np.ndarray | None = None,
        may_miss: Mapping[str, str | None] | None = None,
    ) -> Design:
        """Apply formulas to a table.

        Parameters
        ----------
        response : str or None
            Left-hand side, e.g. ``"tuned"``; None for a table without a response.
        formulas : mapping of str to str
            Right-hand side by predictor stem.
        data : DataFrame or mapping of arrays
            pandas, polars, anything narwhals reads, or a dict of equally long arrays.
        missing : {"raise", "drop", "model"}
            What to do with rows that have missing values in a used column. With ``"model"`` they
            stay, and what is missing is NaN in the matrices.
        center : bool
            Whether features are centred (if there is an intercept).
        obs_id : array, optional
            Row labels; by default the positions of the rows in ``data``.
        may_miss : mapping of str to str or None, optional
            See :class:`Design`.

        Raises
        ------
        DataError
            For unknown columns, missing or infinite values, constant or duplicate design
            columns, and tables without enough rows.
        """
        if missing not in MISSING:
            raise SpecError(unknown("value of `missing`", missing, MISSING))
        may_miss = may_miss or {}
        table = to_pandas(data)
        fitted = response is not None
        least = 2 if fitted else 1
        if len(table) < least:
            raise DataError(f"The table has {len(table)} row(s); a mixture needs at least {least}.")
        available = list(table.columns)
        used = used_columns(([response] if response else []) + [*formulas.values()], available)
        given = table[used].reset_index(drop=True)
        holes: dict[str, np.ndarray] = {}
        if missing == "model":
            given, holes = _filled(given, may_miss)
        columns, kept = _complete(given, missing, _advice(given, missing, may_miss))
        labels = (np.arange(len(kept)) if obs_id is None else np.asarray(obs_id))[kept]
        for formula in formulas.values():
            _check_features(formula, columns)
        seen: dict[str, FittedFormula] = {}
        observed = None
        if response:
            _check_response(response, formulas, columns)
            seen[names.RESPONSE], values = FittedFormula.fit(
                response, columns, labels, is_response=True
            )
            observed = _single(response, values)
        matrices = {}
        for stem, formula in formulas.items():
            seen[stem], values = FittedFormula.fit(formula, columns, labels)
            if fitted:
                _check_degenerate(values, seen[stem].terms, stem)
            values = _with_holes(values, seen[stem].terms, holes)
            matrices[stem] = _matrix(values, seen[stem].terms, center)
        rows = Rows(matrices, labels, _holed(columns, holes), observed)
        n_dropped = len(kept) - len(columns)
        return cls(rows, response or "", dict(formulas), center, n_dropped, seen, may_miss)

    @property
    def response(self) -> np.ndarray:
        """The response (obs,) as the model sees it."""
        return self.rows.observed

    @property
    def columns(self) -> pd.DataFrame:
        """The used columns of the rows the model is fitted to."""
        table: pd.DataFrame = self.rows.columns
        return table

    def transform(self, data: Any = None, *, with_response: bool = False) -> Rows:
        """See new rows through this design; None means the rows it was made from.

        Categories, spline knots, polynomial bases, centring and scaling are those of the
        original rows. Missing values of columns that the gate models are NaN in the matrices, if
        they can be integrated out.

        Raises
        ------
        DataError
            For unknown columns, missing values in others, and categories that were not seen.
        """
        if data is None:
            return self.rows
        table = to_pandas(data)
        wanted = [*self.formulas.values()] + ([self.response_term] if with_response else [])
        used = used_columns(wanted, list(self.columns.columns))
        for name in used:
            if name not in table.columns:
                raise DataError(f"{unknown('column', name, table.columns)} The model needs it.")
        given, holes = _filled(table[used].reset_index(drop=True), self.may_miss, self.columns)
        columns, _ = _complete(given, "raise", "Fill or remove them.")
        columns = self._as_fitted(columns)
        labels = np.arange(len(columns))
        matrices = {}
        for stem, matrix in self.rows.matrices.items():
            values = self._seen[stem].apply(columns, labels)
            values = _with_holes(values, matrix.terms, holes)
            matrices[stem] = matrix.at(values)
        response = None
        if with_response:
            values = self._seen[names.RESPONSE].apply(columns, labels)
            response = _single(self.response_term, values)
        return Rows(matrices, labels, _holed(columns, holes), response)

    def _as_fitted(self, columns: pd.DataFrame) -> pd.DataFrame:
        """Return new columns as the fitted ones' types; refuse what those cannot hold."""
        import pandas as pd

        if not len(columns):
            return self.columns[list(columns)].iloc[:0]
        found = {}
        for name in columns:
            fitted, new = self.columns[name], columns[name]
            if isinstance(fitted.dtype, pd.CategoricalDtype):
                check_known(str(name), new, fitted.cat.categories)
                new = new.astype(fitted.dtype)
            elif kind(new) != kind(fitted):
                raise DataError(
                    f"Column {name!r} holds {kind(new)} here, such as {listed(new[:1].tolist())} "
                    f"at row 0, but {kind(fitted)} in the fitted rows."
                )
            found[name] = new
        for formula in self._seen.values():
            for name, known in formula.categories.items():
                if name in found:
                    check_known(name, found[name], known)
        return pd.DataFrame(found, index=columns.index)


def _complete(
    columns: pd.DataFrame,
    missing: str,
    advice: str,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the complete rows in plain types, and the mask that picks them."""
    keep, missed = complete_rows(columns, missing, advice)
    n_dropped = int(len(keep) - keep.sum())
    if n_dropped:
        if keep.sum() < 2:
            raise DataError(
                f"missing='drop' would leave {int(keep.sum())} of {len(keep)} rows; values are "
                f"missing in {listed(missed)}."
            )
        warnings.warn(
            f"missing='drop' left out {n_dropped} of {len(keep)} rows with missing values in "
            f"{listed(missed)}.",
            MissingRowsWarning,
            skip_file_prefixes=(str(Path(__file__).parents[1]),),
        )
    return plain(columns[keep]).reset_index(drop=True), keep


def _advice(columns: pd.DataFrame, missing: str, may_miss: Mapping[str, str | None]) -> str:
    """Say what can be done about missing values."""
    if missing == "model":
        return "The gate does not model it: fill them, or pass missing='drop' to fit."
    first = next((str(c) for c in columns if columns[c].isna().any()), "")
    if may_miss.get(first, "no column of the gate") is None:
        return "Fill them, or pass missing='drop' to fit, or missing='model' with method='em'."
    return "Fill them, or pass missing='drop' to fit."


def _filled(
    columns: pd.DataFrame,
    may_miss: Mapping[str, str | None],
    fitted: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Fill gaps that can be integrated out by an average, and return where they are.

    The average is of the fitted columns, or of the columns themselves.
    """
    holes: dict[str, np.ndarray] = {}
    for name in (c for c in columns if may_miss.get(str(c), "") != ""):
        values, gone = gaps(str(name), columns[name])
        if not gone.any():
            continue
        reason = may_miss[str(name)]
        if reason is not None:
            raise DataError(
                f"Column {str(name)!r} has {int(gone.sum())} missing value(s), first at row(s) "
                f"{listed(np.flatnonzero(gone))}, which cannot be integrated out, since {reason}. "
                f"Fill or remove them{'' if fitted is not None else _DROP}."
            )
        known = values[~gone] if fitted is None else fitted[str(name)].to_numpy(dtype=float)
        known = known[np.isfinite(known)]
        if not known.size:
            raise DataError(
                f"Column {str(name)!r} has no value at all: leave it out of the formulas."
            )
        columns = columns.assign(**{str(name): np.where(gone, known.mean(), values)})
        holes[str(name)] = gone
    return columns, holes


def _with_holes(
    values: np.ndarray, terms: tuple[str, ...], holes: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Put NaN where features (obs, term) are missing."""
    for j, term in enumerate(terms):
        if term in holes:
            values = np.array(values)
            values[holes[term], j] = np.nan
    return values


def _holed(columns: pd.DataFrame, holes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Put NaN where columns are missing."""
    back = {name: columns[name].astype(float).mask(gone) for name, gone in holes.items()}
    return columns.assign(**back) if back else columns


def _check_features(formula: str, columns: pd.DataFrame) -> None:
    """Refuse features that are no numbers and no categories."""
    for name in looked_up(formula):
        if kind(columns[name]) == "dates":
            raise DataError(
                f"Column {name!r} holds dates, such as {columns[name].iloc[0]}: make a column of "
                f"numbers or categories from it (formula {formula!r})."
            )


def _check_response(response: str, formulas: Mapping[str, str], columns: pd.DataFrame) -> None:
    """Refuse responses that are no numbers, or that the features already tell."""
    for name in looked_up(response):
        if kind(columns[name]) != "numbers":
            raise DataError(
                f"The response {name!r} holds {kind(columns[name])}, such as "
                f"{listed(columns[name][:1].tolist())}; it must be numeric."
            )
    available = list(columns.columns)
    told_by = used_columns([response], available)
    for stem, formula in formulas.items():
        if told_by and {*told_by} <= {*used_columns([formula], available)}:
            raise SpecError(
                f"The response {response!r} is made of features of {stem!r} ({formula!r}); a "
                "response cannot be its own feature."
            )


def _single(response: str, values: np.ndarray) -> np.ndarray:
    if values.shape[1] != 1:
        raise DataError(
            f"The response {response!r} makes {values.shape[1]} columns; it must be one, and "
            "numeric."
        )
    return values[:, 0]


def _matrix(values: np.ndarray, terms: tuple[str, ...], center: bool) -> Matrix:
    has_intercept = INTERCEPT in terms
    free = np.array([t != INTERCEPT for t in terms])
    gone = np.isnan(values)
    if gone.any():
        known = np.ma.masked_array(values, gone)
        mean, sd = known.mean(axis=0).data, known.std(axis=0).data
        root_mean_square = np.sqrt((known**2).mean(axis=0).data)
    else:
        mean, sd = values.mean(axis=0), values.std(axis=0)
        root_mean_square = np.sqrt(np.mean(values**2, axis=0))
    centre = np.where(free & has_intercept & center, mean, 0.0)
    scale = np.where(free, sd if has_intercept else root_mean_square, 1.0)
    span = (np.nanmin(values, axis=0), np.nanmax(values, axis=0))
    return Matrix(terms, values, centre, scale, span)


def _check_degenerate(values: np.ndarray, terms: tuple[str, ...], stem: str) -> None:
    """Refuse columns that no data can tell from the intercept or from one another."""
    has_intercept = INTERCEPT in terms
    columns = [j for j, t in enumerate(terms) if t != INTERCEPT]
    size = np.abs(values).max(axis=0)
    for j in columns:
        check_size(values[:, j], f"design column {terms[j]!r} of {stem!r}")
        constant = np.ptp(values[:, j]) <= ROUNDING * size[j]
        if size[j] == 0 and terms[j].endswith("]"):
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is 0 in every row: no row falls in "
                "it. Remove the category (.cat.remove_unused_categories()) or the term."
            )
        if constant and (has_intercept or size[j] == 0):
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is constant up to rounding "
                f"({values[0, j]:g} in every row). Remove it from the formula."
            )
    shifted = values[:, columns] - (values[:, columns].mean(axis=0) if has_intercept else 0.0)
    unit = shifted / np.linalg.norm(shifted, axis=0)
    parallel = np.triu(np.abs(unit.T @ unit) > 1 - ROUNDING, k=1)
    if parallel.any():
        a, b = np.argwhere(parallel)[0]
        raise DataError(
            f"The design columns {terms[columns[a]]!r} and {terms[columns[b]]!r} of {stem!r} are "
            "duplicates of each other (up to shift and scale). Remove one."
        )

"""Formula + table -> Design: matrices, response, terms, scaling; the same recipe for new rows.

Formulas are formulaic's. A design remembers the columns it was made from, so it can be remade
exactly from its formulas and its table: that is how a saved fit comes back without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.design_checks import (
    check_degenerate,
    check_features,
    check_response,
    check_single,
)
from bayes_moe.data.formulas import FittedFormula, used_columns
from bayes_moe.data.matrix import Rows, design_matrix
from bayes_moe.data.missing import (
    MISSING,
    filled_holes,
    missing_advice,
    refuse_or_drop,
    with_holes,
    with_rows_of_holes,
)
from bayes_moe.data.tables import (
    check_known,
    kind,
    listed,
    to_pandas,
)

if TYPE_CHECKING:
    import pandas as pd


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
            given, holes = filled_holes(given, may_miss)
        columns, kept = refuse_or_drop(given, missing, missing_advice(given, missing, may_miss))
        labels = (np.arange(len(kept)) if obs_id is None else np.asarray(obs_id))[kept]
        for formula in formulas.values():
            check_features(formula, columns)
        seen: dict[str, FittedFormula] = {}
        observed = None
        if response:
            check_response(response, formulas, columns)
            seen[names.RESPONSE], values = FittedFormula.fit(
                response, columns, labels, is_response=True
            )
            observed = check_single(response, values)
        matrices = {}
        for stem, formula in formulas.items():
            seen[stem], values = FittedFormula.fit(formula, columns, labels)
            if fitted:
                check_degenerate(values, seen[stem].terms, stem)
            values = with_holes(values, seen[stem].terms, holes)
            matrices[stem] = design_matrix(values, seen[stem].terms, center)
        rows = Rows(matrices, labels, with_rows_of_holes(columns, holes), observed)
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
        given, holes = filled_holes(table[used].reset_index(drop=True), self.may_miss, self.columns)
        columns, _ = refuse_or_drop(given, "raise", "Fill or remove them.")
        columns = self._as_fitted(columns)
        labels = np.arange(len(columns))
        matrices = {}
        for stem, matrix in self.rows.matrices.items():
            values = self._seen[stem].apply(columns, labels)
            values = with_holes(values, matrix.terms, holes)
            matrices[stem] = matrix.at(values)
        response = None
        if with_response:
            values = self._seen[names.RESPONSE].apply(columns, labels)
            response = check_single(self.response_term, values)
        return Rows(matrices, labels, with_rows_of_holes(columns, holes), response)

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

"""Counts that a family must know of each row besides its parameters: numbers of trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.graph_context import row_data
from bayes_moe.data.formulas import looked_up, parse_formula
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.tables import kind, listed


@dataclass(frozen=True)
class RowCount:
    """A known count: a column or expression of the table, or one whole number for all rows.

    ``stem`` is the name of its data variable and of its design matrix.
    """

    name: str
    stem: str
    given: str | int

    @property
    def formula(self) -> str | None:
        """The formula that reads it from a table; None for a number."""
        return f"~ 0 + {self.given}" if isinstance(self.given, str) else None

    def values(
        self, matrices: Mapping[str, Matrix], where: slice | np.ndarray = slice(None)
    ) -> np.ndarray:
        """Return the values (obs,) of some rows, or (1,) if they are the same for all."""
        if isinstance(self.given, int):
            return np.array([float(self.given)])
        return matrices[self.stem].values[where, 0]

    def data(self, matrices: Mapping[str, Matrix]) -> Any:
        """Put the values into the current model: (1, obs), or (1, 1)."""
        import pytensor.tensor as pt

        values = self.values(matrices)
        if self.formula is None:
            return pt.as_tensor(values[None])
        return row_data(self.stem, values, dims=names.OBS)[None]

    def check(self, rows: Rows) -> None:
        """Raise :class:`DataError` unless it is one column of whole numbers from 0."""
        if self.formula is None:
            return
        for column in looked_up(self.formula):
            if kind(rows.columns[column]) != "numbers":
                raise DataError(
                    f"`{self.name}` needs numbers; the column {column!r} holds "
                    f"{kind(rows.columns[column])}, such as "
                    f"{listed(rows.columns[column][:1].tolist())}."
                )
        terms = rows.matrices[self.stem].terms
        if len(terms) != 1:
            raise DataError(
                f"`{self.name}` must be one column; {self.given!r} makes {len(terms)}: "
                f"{listed(terms)}."
            )
        values = self.values(rows.matrices)
        wrong = np.flatnonzero((values < 0) | (values != np.floor(values)))
        if wrong.size:
            raise DataError(
                f"The number of {self.name} {self.given!r} is {values[wrong[0]]:g} at row "
                f"{rows.obs_id[wrong[0]]}; it must be a whole number from 0 ({wrong.size} row(s) "
                "are not)."
            )


def checked(name: str, given: Any) -> str | int:
    """Return what the user gave as a known count.

    Raises
    ------
    SpecError
        Unless it is one term of a formula, or a whole number of at least 1.
    """
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 1:
        return int(given)
    if not isinstance(given, str):
        raise SpecError(
            f"`{name}` must be a column, an expression, or a whole number of at least 1; it is "
            f"{given!r}."
        )
    try:
        terms = parse_formula(str(RowCount(name, name, given).formula))
    except SpecError:
        terms = ()
    if len(terms) != 1:
        raise SpecError(
            f"`{name}` must be one column (in backticks if its name has spaces) or one expression, "
            f"such as 'n' or 'I(a + b)'; it is {given!r}."
        )
    return given

"""Known numbers of each row that a family needs beside the response: trials, or log densities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import is_number, is_whole
from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.data.formulas import looked_up, parse_formula
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.tables import kind

REAL = ("log_density",)
"""Known numbers that are not counts: any finite number."""


@dataclass(frozen=True)
class RowCount:
    """A known count: a column or expression of the table, or one whole number for all rows.

    ``name`` is the family's, such as ``"trials"``; ``stem`` names its data variable and its design
    matrix; ``term`` is the expression or the number. Numbers of the names in :data:`REAL` are not
    counts.
    """

    name: str
    stem: str
    term: str | float

    @property
    def formula(self) -> str | None:
        """Right-hand side that evaluates it on a table; None for a number."""
        return f"~ 0 + {self.term}" if isinstance(self.term, str) else None

    def values(
        self, matrices: Mapping[str, Matrix], where: slice | np.ndarray = slice(None)
    ) -> np.ndarray:
        """Counts (obs,) of the rows ``where``, or (1,) for one number."""
        if isinstance(self.term, str):
            return matrices[self.stem].values[where, 0]
        return np.array([float(self.term)])

    def data(self, matrices: Mapping[str, Matrix], context: GraphContext = CONSTANTS) -> Any:
        """Counts in the current PyMC model: (1, obs), or (1, 1) for one number."""
        import pytensor.tensor as pt

        values = self.values(matrices)
        if self.formula is None:
            return pt.as_tensor(values[None])
        return context.data(self.stem, values, dims=names.OBS)[None]

    def check(self, rows: Rows) -> None:
        """Raise :class:`DataError` unless it is one column of numbers, counts whole and >= 0."""
        if self.formula is None:
            return
        for column in (c for c in looked_up(self.formula) if c in rows.columns):
            if kind(rows.columns[column]) != "numbers":
                raise DataError(
                    f"`{self.name}` needs numbers; the column {column!r} holds "
                    f"{kind(rows.columns[column])}, such as "
                    f"{listed(rows.columns[column][:1].tolist())}."
                )
        terms = rows.matrices[self.stem].terms
        if len(terms) != 1:
            raise DataError(
                f"`{self.name}` must be one column; {self.term!r} makes {len(terms)}: "
                f"{listed(terms)}."
            )
        if self.name in REAL:
            return
        values = self.values(rows.matrices)
        wrong = np.flatnonzero((values < 0) | (values != np.floor(values)))
        if wrong.size:
            raise DataError(
                f"The number of {self.name} {self.term!r} is {values[wrong[0]]:g} at row "
                f"{rows.obs_id[wrong[0]]}; it must be a whole number from 0 ({wrong.size} row(s) "
                "are not)."
            )


def check_row_count(name: str, term: Any) -> str | float:
    """Known count that a user specified: a term of a formula, or a whole number.

    Raises
    ------
    SpecError
        Unless it is one term of a formula, or a whole number of at least 1; of the names in
        :data:`REAL`, a finite number.
    """
    if name in REAL and is_number(term) and np.isfinite(term):
        return float(term)
    if is_whole(term) and term >= 1 and name not in REAL:
        return int(term)
    if not isinstance(term, str):
        number = "finite number" if name in REAL else "whole number of at least 1"
        raise SpecError(f"`{name}` must be a column, an expression, or a {number}; it is {term!r}.")
    reason = ""
    try:
        terms = parse_formula(str(RowCount(name, name, term).formula))
    except SpecError as error:
        terms, reason = (), f" {error}"
    if len(terms) != 1:
        raise SpecError(
            f"`{name}` must be one column (in backticks if its name has spaces) or one expression, "
            f"such as 'n' or 'I(a + b)'; it is {term!r:.200}.{reason}"
        )
    return term

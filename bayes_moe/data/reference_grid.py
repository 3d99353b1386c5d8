"""Reference rows: one column walks over its observed values while the others stand still."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import parse_formula, used_columns

if TYPE_CHECKING:
    import pandas as pd

POINTS = 200
"""Points of a grid over a numeric column."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows that differ in one column.

    Attributes
    ----------
    feature : str
        The column that walks.
    rows : pandas.DataFrame
        The rows (point, column); they have no response.
    levels : tuple
        Categories of the feature in the order of the axis; empty for a numeric feature.
    held : dict
        Values of the columns that stand still.
    """

    feature: str
    rows: pd.DataFrame
    levels: tuple[Any, ...]
    held: Mapping[str, Any]

    @property
    def x(self) -> np.ndarray:
        """Where the rows stand on the feature's axis (point,)."""
        return self.positions(self.rows)

    def positions(self, table: pd.DataFrame) -> np.ndarray:
        """Return where a table's rows stand on the feature's axis: category 0 is at 0, ..."""
        values = table[self.feature]
        if not self.levels:
            return values.to_numpy(dtype=float)
        place = {level: float(j) for j, level in enumerate(self.levels)}
        return np.array([place[v] for v in values.tolist()])


def columns_of(design: Design, stems: Iterable[str] | None = None) -> list[str]:
    """Return the columns that some predictors use (all predictors if ``stems`` is None)."""
    formulas = [design.formulas[s] for s in (design.formulas if stems is None else stems)]
    return used_columns(formulas, list(design.columns.columns))


def choose_feature(design: Design, feature: str | None, stems: Iterable[str]) -> str:
    """Return the column to plot against.

    Left out, it is the only numeric column of some predictors, or their only column. Predictors
    without columns leave the choice to the whole model.

    Raises
    ------
    DataError
        If the model does not use the column.
    SpecError
        If there is no choice, or more than one; the message names the candidates.
    """
    every = columns_of(design)
    if feature is not None:
        if feature not in every:
            raise DataError(unknown("feature", feature, every))
        return feature
    candidates = columns_of(design, stems) or every
    numeric = [c for c in candidates if not is_categorical(design, c)]
    for choice in (numeric, candidates):
        if len(choice) == 1:
            return choice[0]
    if not candidates:
        raise SpecError("The model uses no column, so there is no feature to plot against.")
    listed = ", ".join(repr(c) for c in candidates)
    raise SpecError(f"Say which `feature` to plot against; the candidates are {listed}.")


def grid_along(
    design: Design,
    feature: str,
    at: Mapping[str, Any] | None = None,
    whole: Iterable[str] = (),
) -> Grid:
    """Walk over the observed values of a column, the others held still.

    A numeric feature takes 200 even steps over its range, a categorical one every observed
    category. Numeric columns are held at their median, others at their most frequent category.
    Columns of predictors in ``whole`` take whole numbers only.

    Parameters
    ----------
    design : Design
        The fitted rows.
    feature : str
        A column that the model uses.
    at : mapping of str to value, optional
        Other values to hold columns at, in the columns' own units.
    whole : iterable of str
        Stems of what must be whole, such as numbers of trials.

    Raises
    ------
    DataError
        For columns that the model does not use, categories that were not observed, and values
        that are no numbers.
    SpecError
        If ``at`` holds the feature itself.
    """
    import pandas as pd

    wanted = dict(at or {})
    if feature in wanted:
        raise SpecError(f"`at` cannot hold {feature!r}: it is the feature of the plot.")
    columns = columns_of(design)
    for column in wanted:
        if column not in columns:
            raise DataError(unknown("column in `at`", column, columns))
    observed, rounded = design.columns, columns_of(design, whole)
    levels = _levels(observed[feature]) if is_categorical(design, feature) else ()
    steps = levels or np.linspace(observed[feature].min(), observed[feature].max(), POINTS)
    if feature in rounded:
        steps = np.unique(np.rint(steps))
    rows, held = {}, {}
    for column in columns:
        if column != feature:
            held[column] = _hold(design, column, wanted)
            if column in rounded and column not in wanted:
                held[column] = float(np.rint(held[column]))
        values = steps if column == feature else [held[column]] * len(steps)
        kind = observed[column].dtype if is_categorical(design, column) else float
        rows[column] = pd.Series(values, dtype=kind)
    return Grid(feature, pd.DataFrame(rows), levels, held)


def state(held: Mapping[str, Any]) -> list[str]:
    """Return values of columns in words, such as ``"x = 1.5"``."""
    return [f"{c} = {v:.4g}" if isinstance(v, float) else f"{c} = {v}" for c, v in held.items()]


def plain_name(term: str) -> str:
    """Return a formula's term without the backticks around a column's name."""
    inner = term[1:-1]
    return inner if term == f"`{inner}`" and "`" not in inner else term


def is_categorical(design: Design, column: str) -> bool:
    """Whether the model sees a column as categories: text, truth values, or inside ``C()``."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    series = design.columns[column]
    if is_bool_dtype(series) or not is_numeric_dtype(series):
        return True
    factors = {
        f.expr for text in design.formulas.values() for t in parse_formula(text) for f in t.factors
    }
    return any(
        f.startswith("C(") and column in used_columns([f], [column], strict=False) for f in factors
    )


def _hold(design: Design, column: str, wanted: Mapping[str, Any]) -> Any:
    """Return the value a column is held at."""
    series = design.columns[column]
    if is_categorical(design, column):
        levels = _levels(series)
        if column not in wanted:
            return max(levels, key=lambda level: int((series == level).sum()))
        if wanted[column] not in levels:
            raise DataError(
                unknown(f"category of {column!r} in `at`", wanted[column], map(str, levels))
            )
        return wanted[column]
    value = wanted.get(column, series.median())
    if not isinstance(value, Real) or not math.isfinite(value):
        raise DataError(f"`at` must hold the column {column!r} at a number; it is {value!r}.")
    return float(value)


def _levels(series: pd.Series) -> tuple[Any, ...]:
    """Observed categories: a categorical column's in its own order, others sorted."""
    return tuple(series.drop_duplicates().sort_values().tolist())

"""Reference rows: a grid over one column, all other columns fixed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import (
    parse_formula,
    text_columns,
    text_terms,
    used_columns,
    without_offsets,
)
from bayes_moe.data.group_terms import AVERAGE, designs, group_columns
from bayes_moe.data.sparse_columns import at_medians, sparse_names
from bayes_moe.data.tables import kind

if TYPE_CHECKING:
    import pandas as pd

EQUIDISTANT, QUANTILES = 150, 51
"""Most points of a grid over a numeric column: equidistant values, and quantiles of its values."""


LONGEST = 40
"""Characters of a fixed value in a legend."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows that differ in one column only.

    Attributes
    ----------
    feature : str
        The column that differs.
    rows : pandas.DataFrame
        The rows (point, column); they have no response.
    levels : tuple
        Categories of the feature in the order of the axis; empty for a numeric feature.
    fixed : dict
        Values of the other columns.
    whole : bool
        Whether the fitted rows have whole numbers only in a numeric feature.
    """

    feature: str
    rows: pd.DataFrame
    levels: tuple[Any, ...]
    fixed: Mapping[str, Any]
    whole: bool = False

    @property
    def x(self) -> np.ndarray:
        """Positions of the rows on the feature's axis (point,)."""
        return self.positions(self.rows)

    def positions(self, table: pd.DataFrame) -> np.ndarray:
        """Return positions of a table's rows on the feature's axis (obs,).

        A categorical feature has its categories at 0, 1, ...
        """
        values = table[self.feature]
        if not self.levels:
            return values.to_numpy(dtype=float)
        position = {level: float(j) for j, level in enumerate(self.levels)}
        return np.array([position[v] for v in values.tolist()])


def columns_of(
    design: Design, stems: Iterable[str] | None = None, offsets: bool = True
) -> list[str]:
    """Return the columns that predictors use; those of all predictors if ``stems`` is None.

    Without ``offsets``, those that their offsets alone use are left out. So are columns that only
    tell groups of random effects apart, sparse matrices, and texts.
    """
    left_out = {*sparse_names(design.columns), *texts_of(design)}
    formulas = [design.formulas[s] for s in (design.formulas if stems is None else stems)]
    formulas = [part for formula in formulas for part in designs(formula)]
    formulas = formulas if offsets else [without_offsets(formula) for formula in formulas]
    used = used_columns(formulas, list(design.columns.columns))
    return [column for column in used if column not in left_out]


def texts_of(design: Design, stems: Iterable[str] | None = None) -> list[str]:
    """Return the columns of texts that predictors use; those of all predictors by default."""
    every = text_columns(design.formulas.values(), list(design.columns.columns))
    read = text_terms(design.formulas[s] for s in (design.formulas if stems is None else stems))
    return [column for column in every if column in {t.column for t in read.values()}]


def choose_feature(
    design: Design, feature: str | None, stems: Iterable[str], counts: Iterable[str] = ()
) -> str:
    """Return the column to plot against.

    By default it is the only numeric column of the predictors ``stems``, or their only column;
    if these have no columns, that of all predictors. Columns of ``counts`` alone, such as the
    number of trials, or of offsets alone are not chosen or named if there are others.

    Raises
    ------
    DataError
        If the model does not use the column.
    SpecError
        If there is no such column, or more than one; the message names the candidates.
    """
    columns = columns_of(design)
    others = columns_of(design, {*design.formulas} - {*counts}, offsets=False)
    if feature is not None:
        if feature in texts_of(design):
            raise DataError(
                f"The column {feature!r} holds texts, along which there are no plots; the others "
                f"are at one text, which at={{{feature!r}: 'a text'}} replaces."
            )
        if feature not in columns:
            raise DataError(unknown("feature", feature, others or columns))
        return feature
    candidates = [c for c in columns_of(design, stems) if c in others] or others or columns
    numeric = [c for c in candidates if not is_categorical(design, c)]
    for choice in (numeric, candidates):
        if len(choice) == 1:
            return choice[0]
    if not candidates:
        beside = " beside texts" if texts_of(design) else ""
        raise SpecError(
            f"The model uses no column{beside}, so there is no feature to plot against."
        )
    listed = ", ".join(repr(c) for c in candidates)
    raise SpecError(f"Say which `feature` to plot against; the candidates are {listed}.")


def grid_along(
    design: Design,
    feature: str,
    at: Mapping[str, Any] | None = None,
    whole: Iterable[str] = (),
) -> Grid:
    """Return a grid over the observed values of a column, all other columns fixed.

    A numeric feature has 150 equidistant values over its range and 51 quantiles of the fitted rows,
    so that a few outlying values leave enough points where most rows are. A categorical one has
    every observed category. Numeric columns are fixed at their median, dates at the
    last one, others at their most frequent category; groups of random effects are the average one,
    whose effects are 0. The columns of a sparse matrix are at their medians, mostly 0. A column
    of texts is at the one that is most similar to all others on average.
    Columns of predictors in ``whole`` have whole numbers only.

    Parameters
    ----------
    design : Design
        The fitted rows.
    feature : str
        A column that the model uses.
    at : mapping of str to value, optional
        Other values to fix columns at, in the columns' own units.
    whole : iterable of str
        Stems of predictors that must be whole, such as numbers of trials.

    Raises
    ------
    DataError
        For columns that the model does not use, categories that were not observed, and values
        that are not numbers.
    SpecError
        If ``at`` names the feature itself.
    """
    import pandas as pd

    at = dict(at or {})
    if feature in at:
        raise SpecError(f"`at` cannot hold {feature!r}: it is the feature of the plot.")
    columns = columns_of(design)
    groups = [c for c in design.columns.columns if c in _grouping(design)]
    for column in at:
        if column not in (known := (*columns, *groups, *texts_of(design))):
            raise DataError(unknown("column in `at`", column, known))
    observed, whole_columns = design.columns, columns_of(design, whole)
    if kind(observed[feature]) == "dates":
        raise DataError(
            f"The column {feature!r} holds dates, along which there are no plots: for these, make "
            "a column of numbers from it, and write that in the formula."
        )
    levels = _levels(observed[feature]) if is_categorical(design, feature) else ()
    steps = levels or _steps(observed[feature].to_numpy(dtype=float))
    if feature in whole_columns:
        steps = np.unique(np.rint(steps))
    rows, fixed = {}, {}
    for column in columns:
        if column != feature:
            fixed[column] = _fixed_value(design, column, at)
            # A median of an even number of counts can be a half.
            if column in whole_columns and column not in at:
                fixed[column] = float(np.rint(fixed[column]))
        values = steps if column == feature else [fixed[column]] * len(steps)
        dtype = observed[column].dtype if is_categorical(design, column) else float
        rows[column] = pd.Series(values, dtype=dtype)
    for column in (*groups, *texts_of(design)):
        fixed[column] = (_fixed_group if column in groups else _fixed_text)(design, column, at)
        rows[column] = pd.Series([fixed[column]] * len(steps), dtype=object)
    whole_feature = not levels and bool((observed[feature].dropna() % 1 == 0).all())
    for column in sparse_names(observed):
        rows[column] = at_medians(observed[column], len(steps))
    return Grid(feature, pd.DataFrame(rows), levels, fixed, whole_feature)


def with_values(grid: Grid, values: np.ndarray) -> Grid:
    """Return a grid with other values (point,) of a numeric feature."""
    same = grid.rows.iloc[np.zeros(len(values), dtype=int)].reset_index(drop=True)
    return replace(grid, rows=same.assign(**{grid.feature: values}))


def state(fixed: Mapping[str, Any]) -> list[str]:
    """Return one text per fixed column, such as ``"x = 1.5"``; long texts are cut."""
    return [f"{c} = {_shown(v)}" for c, v in fixed.items()]


def _shown(value: Any) -> str:
    """Return a fixed value as text of one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def plain_name(term: str) -> str:
    """Return a formula's term without the backticks around a column's name."""
    # Only of a whole term: in `a` + `b` the backticks are needed.
    inner = term[1:-1]
    return inner if term == f"`{inner}`" and "`" not in inner else term


def is_categorical(design: Design, column: str) -> bool:
    """Whether the model treats a column as categories: text, truth values, or inside ``C()``.

    A column that ``text()`` alone reads is none.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    series = design.columns[column]
    if column in texts_of(design):
        return False
    if is_bool_dtype(series) or not is_numeric_dtype(series):
        return True
    factors = {
        f.expr
        for text in design.formulas.values()
        for part in designs(text)
        for t in parse_formula(part)
        for f in t.factors
    }
    return any(
        f.startswith("C(") and column in used_columns([f], [column], strict=False) for f in factors
    )


def _steps(values: np.ndarray) -> np.ndarray:
    """Return ascending points over the range of a numeric column with the values (obs,)."""
    values = values[~np.isnan(values)]
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES))
    return np.unique([*np.linspace(values.min(), values.max(), EQUIDISTANT), *quantiles])


def _fixed_value(design: Design, column: str, at: Mapping[str, Any]) -> Any:
    """Return the value a column is fixed at."""
    series = design.columns[column]
    if kind(series) == "dates":
        return _date(at[column], column) if column in at else series.sort_values().iloc[-1]
    if is_categorical(design, column):
        levels = _levels(series)
        if column not in at:
            return max(levels, key=lambda level: int((series == level).sum()))
        if at[column] not in levels:
            raise DataError(unknown(f"category of {column!r} in `at`", at[column], levels))
        return at[column]
    value = at.get(column, series.median())
    if not isinstance(value, Real) or not math.isfinite(value):
        raise DataError(f"`at` must hold the column {column!r} at a number; it is {value!r}.")
    return float(value)


def _date(value: Any, column: str) -> pd.Timestamp:
    """Return a date at which a column is fixed."""
    import pandas as pd

    try:
        return pd.Timestamp(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"`at` must hold {column!r} at a date; it is {value!r}.") from error


def _grouping(design: Design) -> set[str]:
    """Columns that only tell groups of random effects apart."""
    return group_columns(design.formulas.values()) - {*columns_of(design)}


def _fixed_group(design: Design, column: str, at: Mapping[str, Any]) -> Any:
    """Return the group that a column is fixed at: by default one that no row has."""
    levels = _levels(design.columns[column])
    if column not in at:
        return AVERAGE if AVERAGE not in levels else f"{AVERAGE} group"
    if at[column] not in levels:
        raise DataError(unknown(f"group of {column!r} in `at`", at[column], levels))
    return at[column]


def _fixed_text(design: Design, column: str, at: Mapping[str, Any]) -> str:
    """Return the text that a column is fixed at: by default a typical one."""
    text = at.get(column, design.columns[column].iloc[design.texts.typical(column)])
    if not isinstance(text, str):
        raise DataError(f"`at` must hold {column!r} at a text; it is {text!r:.80}.")
    return text


def _levels(series: pd.Series) -> tuple[Any, ...]:
    """Return the observed categories: of a categorical column in its order, others sorted."""
    return tuple(series.drop_duplicates().sort_values().tolist())

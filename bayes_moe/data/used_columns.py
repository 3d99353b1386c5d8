"""Columns of a table that a model uses, complete, with what is observed of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.censored_response import Limits, limits_in
from bayes_moe.data.class_labels import ResponseRule
from bayes_moe.data.fitted_texts import NO_TEXTS, FittedTexts, check_no_columns_of_terms
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.formulas import used_columns
from bayes_moe.data.missing import fill_gaps, missing_advice, refuse_or_drop
from bayes_moe.data.observation import Observation
from bayes_moe.data.open_ends import open_ends
from bayes_moe.data.past_rows import NO_PAST, PastRows, past_rows
from bayes_moe.data.responses import response_formula
from bayes_moe.data.sequences import with_moments
from bayes_moe.data.tables import row_labels, to_pandas

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class UsedColumns:
    """Columns that formulas use, without missing values.

    ``kept`` (row of the table,) marks the rows that are kept, ``gaps`` the filled cells by column
    (obs,), and ``index`` (obs,) holds the table's own labels of the kept rows. ``observation`` is
    what other columns than the response say of these, ``n_dropped`` how many rows are left out
    because of missing values. ``limits`` state what is known of a censored response. ``past`` are
    the rows in time and the terms that look back along them. ``texts`` are the fitted text terms of
    a saved design; those of another are to be fitted.
    """

    columns: pd.DataFrame
    kept: np.ndarray
    gaps: Mapping[str, np.ndarray]
    index: pd.Index | None
    observation: Observation
    n_dropped: int
    limits: Limits | None = None
    past: PastRows = NO_PAST
    texts: FittedTexts | None = None

    def with_texts(self, formulas: Iterable[str]) -> tuple[FittedTexts, pd.DataFrame]:
        """Fitted text terms of formulas, and the columns with theirs."""
        if self.texts is None:
            return FittedTexts.fit(formulas, self.columns)
        return self.texts, self.texts.of_fitted(self.columns)


@dataclass(frozen=True)
class Stored:
    """What a saved fit says of its design: numbers of columns by stem, and fitted text terms."""

    columns: Mapping[str, int] = field(default_factory=dict)
    texts: FittedTexts = NO_TEXTS


def columns_in_use(
    data: Any,
    rule: ResponseRule,
    formulas: Mapping[str, str],
    treatment: tuple[str, Mapping[str, str | None]],
    functions: Functions | None,
) -> UsedColumns:
    """Columns of a table that a model uses, with missing values refused, dropped or filled.

    ``treatment`` says what is done with missing values, and which columns may have them.
    """
    table, (missing, may_miss) = to_pandas(data), treatment
    least = 2 if rule.response else 1
    if len(table) < least:
        raise DataError(f"The table has {len(table)} row(s); a mixture needs at least {least}.")
    rule.row_columns.check_columns(table)
    left = [response_formula(rule.response)] if rule.response else []
    expressions = [*left, *formulas.values(), *rule.row_columns.formulas]
    check_no_columns_of_terms(expressions, table.columns)
    used_columns(expressions, list(table.columns), index=table.index.names)
    index, table = row_labels(table), table.reset_index(drop=True)
    table = with_moments(table, rule.row_columns.time)
    past = past_rows(table, rule.row_columns, expressions)
    table, lost, past = past.applied(table, functions)
    used = used_columns(expressions, list(table.columns))
    absent = rule.row_columns.without_weight(table, functions) | lost
    # In the place of a row without weight stands another: what it holds does not matter.
    columns = table[used].iloc[np.where(absent, np.argmin(absent), np.arange(len(table)))]
    columns = columns.reset_index(drop=True)
    limits = limits_in(rule.response, columns)
    columns, ends = open_ends(limits, columns, [*formulas.values(), *rule.row_columns.formulas])
    gaps: dict[str, np.ndarray] = {}
    if missing == "model":
        columns, gaps = fill_gaps(columns, may_miss)
    complete, kept = refuse_or_drop(columns, missing, missing_advice(columns, missing, may_miss))
    complete = complete[~absent[kept]].reset_index(drop=True)
    gaps = {name: cells[~absent] for name, cells in gaps.items()}
    n_dropped = int(len(kept) - kept.sum())
    kept = kept & ~absent
    past.check_kept(kept)
    gaps |= {name: cells[kept] for name, cells in ends.items()}
    more, seen = rule.row_columns.read(table[kept], complete, np.flatnonzero(kept), functions)
    seen = replace(seen, **past.observed(kept))
    index = None if index is None else index[kept]
    return UsedColumns(more, kept, gaps, index, seen, n_dropped, limits, past)

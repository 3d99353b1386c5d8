"""What is observed of a row: response, weight, group, time and series, and a known expert.

A row of weight ``w`` counts as ``w`` rows. What a column says of the rows belongs to the rows that
a model is fitted to; predictions for other rows do not read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed, nearest, unknown
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.formulas import FittedFormula, looked_up, parse_formula, used_columns
from bayes_moe.data.sequences import Sequences
from bayes_moe.data.tables import in_index, kind, plain

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Observation:
    """What is observed of some rows, each an array or None.

    ``response`` is (obs,), or (response, obs) of several responses. ``weights`` (obs,) are
    positive; None if all are 1. ``expert`` (obs,) is the position of each row's expert where it is
    known, -1 elsewhere. ``group`` (obs,) is the number of each row's group, from 0. ``limits``
    (4, obs) are asked for where predictions are of recorded responses: rows are recorded only from
    the first to the second, responses up to the third are recorded as that, and those from the
    fourth as that. ``time`` (obs,) is a number, of dates the seconds since 1970, and ``series``
    (obs,) the number of each row's series, from 0: the rows of a series are in the order of time.
    """

    response: np.ndarray | None = None
    weights: np.ndarray | None = None
    expert: np.ndarray | None = None
    group: np.ndarray | None = None
    limits: np.ndarray | None = None
    time: np.ndarray | None = None
    series: np.ndarray | None = None

    @property
    def sequences(self) -> Sequences | None:
        """Which rows follow one another; None without times that increase in each series."""
        if self.time is None:
            return None
        found = Sequences.of(self.series, len(self.time))
        return found if found.increasing(self.time) else None

    def pick(self, which: slice | np.ndarray) -> Observation:
        """The same of the rows at some positions."""
        values = (getattr(self, f.name) for f in fields(self))
        return Observation(*(None if v is None else v[..., which] for v in values))


UNOBSERVED = Observation()
"""Rows of which nothing is observed."""


NAMES = ("weights", "group", "expert", "time", "series")
"""Names of the columns that say more of the rows, as arguments of a description."""


@dataclass(frozen=True)
class RowColumns:
    """What columns say of the rows that a model is fitted to, beside features and response.

    ``weights`` is a column or an expression, ``group``, ``expert``, ``time`` and ``series`` are
    columns; each may be None. ``labels`` are those of the experts, in their order.
    ``without_rows`` are the positions of experts of which the fitted table has no known row.
    ``memory`` says that the model reads the rows one after the other, along each series.
    """

    weights: str | None = None
    group: str | None = None
    expert: str | None = None
    time: str | None = None
    series: str | None = None
    labels: tuple[Any, ...] = ()
    without_rows: tuple[int, ...] = ()
    memory: bool = False

    @property
    def columns(self) -> tuple[str | None, ...]:
        """Weights, group, expert, time and series."""
        return self.weights, self.group, self.expert, self.time, self.series

    @property
    def given(self) -> dict[str, str]:
        """What there is, by name."""
        named = zip(NAMES, self.columns, strict=True)
        return {name: text for name, text in named if text is not None}

    @property
    def formulas(self) -> list[str]:
        """Formulas whose columns are used without a missing value."""
        return [f"~ 0 + {text}" for text in (self.weights,) if text is not None]

    def check_columns(self, table: pd.DataFrame) -> None:
        """Raise :class:`DataError` for columns that a table lacks."""
        for name in NAMES[1:]:
            column = getattr(self, name)
            if column is not None and column not in table.columns:
                hint = in_index(column, table.index.names)
                raise DataError(
                    f"{unknown('column', column, table.columns)} It is the `{name}` of the model."
                    f"{hint}"
                )

    def weights_of(
        self, columns: pd.DataFrame, positions: np.ndarray, functions: Functions | None
    ) -> np.ndarray | None:
        """Weights (obs,) of complete rows at positions of a table; None without a column.

        Raises
        ------
        DataError
            For weights that are no number, negative or all zero.
        """
        if self.weights is None:
            return None
        formula = f"~ 0 + {self.weights}"
        for column in (c for c in looked_up(formula) if c in columns):
            if kind(columns[column]) != "numbers":
                raise DataError(
                    f"`weights` needs numbers; the column {column!r} holds {kind(columns[column])},"
                    f" such as {listed(columns[column][:1].tolist())}."
                )
        _, values = FittedFormula.fit(formula, columns, positions, functions)
        if values.shape[1] != 1:
            raise DataError(f"`weights` must be one column; {self.weights!r} makes several.")
        weights = values[:, 0]
        wrong = np.flatnonzero(~(weights >= 0))
        if wrong.size:
            raise DataError(
                f"The weight {self.weights!r} is {weights[wrong[0]]:g} at row "
                f"{positions[wrong[0]]}; a weight says how many rows a row counts as, so it cannot "
                f"be negative ({wrong.size} row(s) are)."
            )
        if not weights.any():
            raise DataError(f"The weights {self.weights!r} are zero in all rows: none counts.")
        return weights

    def experts_of(self, table: pd.DataFrame, positions: np.ndarray) -> np.ndarray | None:
        """Positions (obs,) of the rows' experts, -1 where missing; None without a column.

        Raises
        ------
        DataError
            For labels that no expert has.
        """
        if self.expert is None:
            return None
        texts = _as_text(table[self.expert])
        position = {str(label): k for k, label in enumerate(self.labels)}
        codes = np.array([position.get(text, -1) for text in texts], dtype=np.int64)
        wrong = np.flatnonzero((codes < 0) & (np.array(texts, dtype=object) != ""))
        if wrong.size:
            text = texts[wrong[0]]
            raise DataError(
                f"Column {self.expert!r} says expert {text!r} at row {positions[wrong[0]]}; the "
                f"experts are {listed(self.labels, 10)}.{nearest(text, position)} Leave the value "
                "missing where the expert is not known."
            )
        return codes

    def without_weight(self, table: pd.DataFrame, functions: Functions | None) -> np.ndarray:
        """Mask (row,) of the rows whose weight is zero, among those that have one."""
        absent = np.zeros(len(table), dtype=bool)
        if self.weights is not None:
            columns = table[used_columns(self.formulas, list(table.columns))]
            whole = columns.notna().all(axis=1).to_numpy()
            found = self.weights_of(plain(columns[whole]), np.flatnonzero(whole), functions)
            absent[whole] = np.asarray(found) == 0
        return absent

    def read(
        self,
        table: pd.DataFrame,
        complete: pd.DataFrame,
        positions: np.ndarray,
        functions: Functions | None,
    ) -> tuple[pd.DataFrame, Observation]:
        """Used columns of rows at positions of a table, with those read here, and what they say.

        ``complete`` are the columns of formulas; in ``table`` values may be missing.
        """
        weights = self.weights_of(complete, positions, functions)
        expert = self.experts_of(table, positions)
        group = self.groups_of(table, positions)
        own = [c for c in self.columns[1:] if c is not None and c not in complete]
        shown = {c: _as_text(table[c]) if c == self.expert else table[c] for c in own}
        if shown:
            import pandas as pd

            more = plain(pd.DataFrame(shown)).reset_index(drop=True)
            complete = pd.concat([complete, more], axis="columns")
        return complete, Observation(None, weights, expert, group)

    def groups_of(self, table: pd.DataFrame, positions: np.ndarray) -> np.ndarray | None:
        """Numbers (obs,) of the rows' groups, in order of appearance; None without a column.

        Raises
        ------
        DataError
            For rows without a group.
        """
        if self.group is None:
            return None
        import pandas as pd

        codes, _ = pd.factorize(table[self.group])
        absent = np.flatnonzero(codes < 0)
        if absent.size:
            raise DataError(
                f"Column {self.group!r} has {absent.size} missing value(s), first at row(s) "
                f"{listed(positions[absent])}: a row needs its group. Give each such row a group of"
                " its own, or leave it out."
            )
        return np.asarray(codes, dtype=np.int64)


def in_time_only(columns: RowColumns) -> RowColumns:
    """Columns of times and series, without what else is known of fitted rows."""
    return RowColumns(time=columns.time, series=columns.series)


NO_COLUMNS = RowColumns()
"""Rows that all count once, and of which no column says more."""


def check_row_columns(columns: Sequence[Any], labels: Sequence[Any]) -> RowColumns:
    """Columns that a user specified for the rows of a model, whose experts have ``labels``.

    ``columns`` are those of :data:`NAMES`, in their order.

    Raises
    ------
    SpecError
        Unless ``weights`` is one term of a formula, and the others are names; for ``series``
        without ``time``.
    """
    weights, _, expert, time, series = columns
    for name, column in zip(NAMES, columns, strict=True):
        if column is not None and not (isinstance(column, str) and column.strip()):
            raise SpecError(
                f"`{name}` must be the name of a column of the table, so that other tables can be "
                f"read too; it is {column!r:.80}."
            )
    if weights is not None:
        reason = ""
        try:
            terms = parse_formula(f"~ 0 + {weights}")
        except SpecError as error:
            terms, reason = (), f" {error}"
        if len(terms) != 1:
            raise SpecError(
                "`weights` must be one column (in backticks if its name has spaces) or one "
                f"expression, such as 'I(w / 2)'; it is {weights!r:.200}.{reason}"
            )
        used_columns([f"~ 0 + {weights}"], [], strict=False)
    if expert is not None and len(labels) == 1:
        raise SpecError("`expert` says which expert a row has; the model has only one.")
    if series is not None and time is None:
        raise SpecError("`series` says which series a row is of: give the column `time` too.")
    given = dict(zip(NAMES, columns, strict=True))
    return RowColumns(**given, labels=tuple(labels))


def _as_text(column: pd.Series) -> list[str]:
    """Labels as text, whole numbers without a point; missing ones are empty."""
    absent = column.isna().to_numpy()
    return [
        ""
        if gone
        else str(int(label))
        if isinstance(label, float) and label.is_integer()
        else str(label)
        for label, gone in zip(column.tolist(), absent, strict=True)
    ]

"""Classes of a response: their labels, in an order, and the codes 0, 1, ... of a column of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed, nearest
from bayes_moe.data.formulas import looked_up
from bayes_moe.data.observation import NO_COLUMNS, RowColumns
from bayes_moe.data.responses import response_formula
from bayes_moe.data.tables import kind

if TYPE_CHECKING:
    import pandas as pd

Levels = tuple[str | int | float | bool, ...]
"""Labels of the classes, in the order of their codes."""

TWO, ANY = "two", "any"
"""How many classes a family has: two, whose codes may be the response itself, or any number."""


@dataclass(frozen=True)
class ResponseRule:
    """How a model reads its response, and what columns say of the rows.

    ``response`` is the left-hand side of the formula, the empty string without one.
    ``takes`` is ``"two"``, ``"any"``, or None of a model of numbers; ``ordered`` says that the
    order of the classes has a meaning. ``given`` are the labels that the description states.
    ``family`` and ``families``, which returns those of classes and how many they take, are for
    messages. ``counts`` are the stems of known counts, which may be sums of several responses.
    ``row_columns`` are columns that say more of the rows.
    """

    response: str
    takes: str | None = None
    ordered: bool = False
    given: Levels | None = None
    family: str = ""
    families: Callable[[], Mapping[str, str]] = dict
    counts: tuple[str, ...] = ()
    row_columns: RowColumns = NO_COLUMNS

    def label_column(self, columns: pd.DataFrame) -> str | None:
        """Column of class labels that the response is; None for a response of numbers.

        Raises
        ------
        DataError
            For labels under a family of numbers, and for an expression of labels.
        """
        looked = looked_up(response_formula(self.response))
        for name in looked:
            if name not in columns:
                raise DataError(
                    f"The response {name!r} is a matrix: name its columns one by one, as in "
                    f"cbind(`{name}[0]`, `{name}[1]`)."
                )
            found = kind(columns[name])
            if self.takes is None and found != "numbers":
                under = f" under family {self.family!r}" if self.family else ""
                raise DataError(
                    f"The response {name!r} holds {found}, such as "
                    f"{listed(columns[name][:1].tolist())}; it must be numeric{under}."
                    f"{self._for_labels()}"
                )
            if self.takes is not None and found not in ("numbers", "categories"):
                raise DataError(
                    f"The response {name!r} holds {found}, such as {columns[name].iloc[0]}: make "
                    "a column of class labels from it."
                )
        if self.takes is None:
            return None
        if len(looked) != 1:
            if self.takes == TWO and self.given is None:
                return None
            raise DataError(
                f"The response {self.response!r} is an expression; classes must be a column of the "
                "table: make one."
            )
        column = looked[0]
        is_number = kind(columns[column]) == "numbers" and columns[column].dtype.kind != "b"
        return None if self.takes == TWO and self.given is None and is_number else column

    def levels(self, column: str, series: pd.Series, obs_id: np.ndarray) -> Levels:
        """Labels of the classes in a column: those given, else those in its rows, in order.

        They are in the order of a categorical's categories, those without a row left out, else
        sorted.

        Raises
        ------
        DataError
            For a single class, for more than two under a family of two, for numbers that are no
            whole ones, and where the order of the classes has a meaning that no one has stated.
        """
        if self.given is not None:
            levels = self.given
            present = np.unique(codes(column, series, levels, obs_id)).astype(int)
        else:
            levels = self._found(column, series, obs_id)
            present = np.arange(len(levels))
        if len(present) < 2:
            raise DataError(
                f"The response {column!r} has one class, {levels[present[0]]!r}, in all "
                f"{len(series)} row(s): there is nothing to classify."
            )
        if self.takes == TWO and len(levels) > 2:
            others = self._named(ANY)
            raise DataError(
                f"The response {column!r} has {len(levels)} classes, {listed(levels)}; family "
                f"{self.family!r} needs two. {others}Make a column of two classes"
                f"{', or leave the other rows out' if not others else ''}."
            )
        return levels

    def _found(self, column: str, series: pd.Series, obs_id: np.ndarray) -> Levels:
        """Labels of the classes in the rows of a column, in order."""
        import pandas as pd

        if isinstance(series.dtype, pd.CategoricalDtype):
            if self.ordered and not series.cat.ordered:
                raise DataError(self._unordered(column, series))
            return tuple(series.cat.remove_unused_categories().cat.categories.tolist())
        if self.ordered and kind(series) == "categories":
            raise DataError(self._unordered(column, series))
        values = series.unique()
        if kind(series) == "numbers" and series.dtype.kind == "f":
            fractions = np.flatnonzero(series.to_numpy() % 1 != 0)
            if fractions.size:
                raise DataError(
                    f"The response {column!r} is {series.iloc[fractions[0]]:g} at row "
                    f"{obs_id[fractions[0]]}; classes of family {self.family!r} are text, "
                    f"categories, truth values or whole numbers ({fractions.size} row(s) are not)."
                )
            values = values.astype("int64")
        return tuple(sorted(values.tolist()))

    def _unordered(self, column: str, series: pd.Series) -> str:
        found = sorted(series.unique().tolist())
        return (
            f"The ordered levels of {column!r} are missing: family {self.family!r} needs the order "
            f"of its classes, {listed(found)}. Give levels=({', '.join(map(repr, found[:2]))}, "
            f"...), lowest first, or make the column pd.Categorical(table[{column!r}], "
            "categories=[...], ordered=True)."
        )

    def _for_labels(self) -> str:
        """Sentence that names the families of classes."""
        named = [*self.families()]
        return f" Families of classes: {listed(named, len(named))}." if named else ""

    def _named(self, takes: str) -> str:
        """Sentence that proposes the families of so many classes."""
        named = [f"family={name!r}" for name, count in self.families().items() if count == takes]
        return f"Use {' or '.join(named)} for more. " if named else ""


def codes(column: str, series: pd.Series, levels: Levels, obs_id: np.ndarray) -> np.ndarray:
    """Positions (obs,) of the rows' classes among the levels, as floats.

    Raises
    ------
    DataError
        For a class that is no level, naming the first rows with it.
    """
    import pandas as pd

    # Dictionaries find 1.0 and True under 1, whatever the column's type.
    known = {label: j for j, label in enumerate(levels)}
    found, distinct = pd.factorize(series)
    by_label = np.array([known.get(label, -1) for label in distinct.tolist()], dtype=float)
    coded = by_label[found] if len(series) else np.empty(0)
    unseen = np.flatnonzero(coded < 0)
    if unseen.size:
        label = series.iloc[unseen[0]]
        rows = obs_id[unseen]
        raise DataError(
            f"The response {column!r} has a class {label!r} at row {rows[0]} that the model has "
            f"not; its classes are {listed(levels, 20)} ({rows.size} row(s) have others, first "
            f"{listed(rows)}).{nearest(label, levels)}"
        )
    return coded


def check_levels(levels: Iterable[Any]) -> Levels:
    """Labels of classes that a user lists, as plain values.

    Raises
    ------
    SpecError
        Unless they are at least two different labels, all text, all truth values or all numbers.
    """
    what = "`levels` must be the labels of at least two classes, in their order"
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise SpecError(f"{what}, such as ('no', 'yes'); it is {levels!r:.100}.")
    plain = tuple(v.item() if isinstance(v, np.generic) else v for v in levels)
    if len(plain) < 2 or len({*plain}) < len(plain):
        raise SpecError(f"{what}, all different; they are {plain!r:.200}.")
    kinds = {float if type(v) is int else type(v) for v in plain}
    if len(kinds) > 1 or not kinds <= {str, bool, float} or not all(v == v for v in plain):
        raise SpecError(
            f"{what}: all text, all truth values or all numbers; they are {plain!r:.200}."
        )
    return plain


def labelled(coded: np.ndarray, levels: Levels, ordered: bool) -> Any:
    """Column (obs,) of labels for the codes of classes: truth values, or a categorical."""
    import pandas as pd

    if levels == (False, True) and isinstance(levels[0], bool):
        return coded.astype(bool)
    dtype = pd.CategoricalDtype(list(levels), ordered=ordered)
    return pd.Categorical.from_codes(coded.astype(np.int64), dtype=dtype)

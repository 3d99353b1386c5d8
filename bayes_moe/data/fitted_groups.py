"""Group terms with the groups of the fitted rows, and their columns on other rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.data.group_terms import ERROR, SAMPLE, GroupColumns, GroupTerm, group_terms

if TYPE_CHECKING:
    import pandas as pd

MOST_TERMS = 30
"""Columns of the design of one group term."""


@dataclass(frozen=True)
class FittedGroups:
    """A group term with the groups of the fitted rows.

    ``design`` is the fitted formula of its design, ``levels`` the distinct rows of its columns.
    """

    term: GroupTerm
    design: Any
    levels: pd.DataFrame
    labels: tuple[str, ...]
    scale: np.ndarray

    @classmethod
    def fit(
        cls,
        term: GroupTerm,
        design: Any,
        values: np.ndarray,
        columns: pd.DataFrame,
        stem: str,
        weights: np.ndarray | None = None,
    ) -> tuple[FittedGroups, GroupColumns]:
        """Groups of rows, and their columns, from the fitted design and its values (obs, term).

        Raises
        ------
        DataError
            For a single group, and for a design that is 0 in every row.
        """
        if values.shape[1] != len(design.terms):
            raise SpecError(f"({term.design[2:]} | {term.name}) of {stem!r} has an offset in it.")
        if values.shape[1] > MOST_TERMS:
            raise DataError(
                f"({term.design[2:]} | {term.name}) of {stem!r} has {values.shape[1]} effects a "
                f"group; at most {MOST_TERMS} are fitted."
            )
        keys = columns[list(term.columns)].astype(object)
        levels = keys.drop_duplicates().sort_values(list(term.columns), key=_sortable)
        levels = levels.reset_index(drop=True)
        if len(levels) < 2:
            raise DataError(
                f"{term.name!r} in (... | {term.name}) of {stem!r} has one group only; effects of "
                "groups need at least two."
            )
        scale = np.sqrt(np.average(values**2, axis=0, weights=weights))
        if not scale.all():
            name = design.terms[int(np.argmin(scale))]
            raise DataError(f"{name!r} in (... | {term.name}) of {stem!r} is 0 in every row.")
        labels = tuple(":".join(map(str, row)) for row in levels.itertuples(index=False))
        fitted = cls(term, design, levels, labels, scale)
        codes = fitted._codes(keys)
        return fitted, GroupColumns(term, design.terms, labels, values, codes, scale)

    def apply(self, columns: pd.DataFrame, labels: np.ndarray, unseen: str) -> GroupColumns:
        """Columns of other rows; ``labels`` (obs,) are the names of rows in errors.

        With ``unseen="sample"`` groups that no fitted row has are numbered in order of appearance,
        from the number of fitted groups plus one on; with ``"average"`` all have that number.

        Raises
        ------
        DataError
            For such groups, if ``unseen`` is ``"error"``.
        """
        keys = columns[list(self.term.columns)].astype(object)
        codes, count = self._codes(keys), len(self.labels)
        new = np.flatnonzero(codes < 0)
        if new.size and unseen == ERROR:
            shown = keys.iloc[new].drop_duplicates().itertuples(index=False)
            raise DataError(
                f"No fitted row has the group(s) {listed([':'.join(map(str, r)) for r in shown])} "
                f"of {self.term.name!r}, first at row {labels[new[0]]}: give unseen='average' for "
                "a group whose effects are 0, or unseen='sample' for effects drawn from their "
                "distribution."
            )
        codes[new] = count
        order: dict[str, int] = {}
        if unseen == SAMPLE and new.size:
            text = [":".join(map(str, row)) for row in keys.iloc[new].itertuples(index=False)]
            order = {label: j for j, label in enumerate(dict.fromkeys(text))}
            codes[new] = [count + 1 + order[label] for label in text]
        values = self.design.apply(columns, labels)
        terms = self.design.terms
        return GroupColumns(self.term, terms, self.labels, values, codes, self.scale, (*order,))

    def _codes(self, keys: pd.DataFrame) -> np.ndarray:
        """Positions (obs,) of rows' groups among the levels; -1 of others."""
        place = {row: j for j, row in enumerate(self.levels.itertuples(index=False, name=None))}
        found = [place.get(row, -1) for row in keys.itertuples(index=False, name=None)]
        return np.array(found, dtype=np.int64)


def _sortable(column: pd.Series) -> pd.Series:
    """Values by which groups are sorted: themselves, or as text where they have no order."""
    try:
        column.sort_values()
    except TypeError:
        return column.astype(str)
    return column


def fit_groups(
    formulas: Mapping[str, str],
    columns: pd.DataFrame,
    labels: np.ndarray,
    fit: Callable[..., tuple[Any, np.ndarray]],
    weights: np.ndarray | None,
) -> tuple[dict[str, tuple[FittedGroups, ...]], dict[str, tuple[GroupColumns, ...]]]:
    """Group terms of formulas fitted to rows, and their columns, by stem.

    ``fit`` makes a fitted formula, and its values, of the right-hand side of a design, columns and
    ``labels`` (obs,) of the rows; ``weights`` (obs,) are those of the rows, if they have any.
    """
    pairs = {
        stem: [
            FittedGroups.fit(term, *fit(term.design, columns, labels), columns, stem, weights)
            for term in group_terms(formula)
        ]
        for stem, formula in formulas.items()
    }
    fitted = {stem: tuple(f for f, _ in own) for stem, own in pairs.items()}
    return fitted, {stem: tuple(c for _, c in own) for stem, own in pairs.items()}

"""Checks of features, responses and design matrices before a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import INTERCEPT, looked_up, used_columns
from bayes_moe.data.matrix_columns import ELEMENT
from bayes_moe.data.responses import response_formula
from bayes_moe.data.tables import (
    ROUNDING,
    check_size,
    kind,
)

if TYPE_CHECKING:
    import pandas as pd

EMPTY_CELL = (
    "a combination of these categories is in no row. Write + in place of * or :, merge categories, "
    "or make one column of the combinations that there are."
)


def check_all_features(formulas: Mapping[str, str], columns: pd.DataFrame) -> None:
    """Raise :class:`DataError` for features of formulas that are no numbers or categories."""
    for formula in formulas.values():
        check_features(formula, columns)


def check_features(formula: str, columns: pd.DataFrame) -> None:
    """Raise :class:`DataError` for features that are neither numbers nor categories."""
    for name in (name for name in looked_up(formula) if name in columns):
        found = kind(columns[name])
        if found in ("dates", "durations"):
            remedy = "make a column of numbers, such as .dt.total_seconds(), from it"
            if found == "dates":
                remedy = (
                    f"write time({name}), the days since the first fitted date, or in another unit "
                    f"time({name}, unit='Y'), or make a column of categories from it"
                )
            raise DataError(
                f"Column {name!r} holds {found}, such as {columns[name].iloc[0]}: {remedy} "
                f"(formula {formula!r})."
            )


def check_response(response: str, formulas: Mapping[str, str], columns: pd.DataFrame) -> None:
    """Raise :class:`SpecError` for a response that is a function of the features."""
    available = list(columns.columns)
    columns_of_response = {*used_columns([response_formula(response)], available)}
    for stem, formula in formulas.items():
        if columns_of_response and columns_of_response <= {*used_columns([formula], available)}:
            raise SpecError(
                f"The response {response!r} is made of features of {stem!r} ({formula!r}); a "
                "response cannot be its own feature."
            )


def check_degenerate(values: np.ndarray, terms: tuple[str, ...], stem: str) -> None:
    """Raise :class:`DataError` for columns that are constant or collinear in pairs."""
    has_intercept = INTERCEPT in terms
    columns = [j for j, t in enumerate(terms) if t != INTERCEPT]
    size = np.abs(values).max(axis=0)
    for j in columns:
        check_size(values[:, j], f"design column {terms[j]!r} of {stem!r}")
        constant = np.ptp(values[:, j]) <= ROUNDING * size[j]
        # formulaic writes the category of a dummy variable in brackets.
        if size[j] == 0 and terms[j].count("[") > 1:
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is 0 in every row: {EMPTY_CELL}"
            )
        if size[j] == 0 and terms[j].endswith("]") and not ELEMENT.fullmatch(terms[j]):
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is 0 in every row: no row falls in "
                "it. Remove the category (.cat.remove_unused_categories()) or the term."
            )
        if constant and (has_intercept or size[j] == 0):
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is constant up to rounding "
                f"({values[0, j]:g} in every row). Remove it from the formula."
            )
    _check_combinations(values, terms, stem)
    shifted = values[:, columns] - (values[:, columns].mean(axis=0) if has_intercept else 0.0)
    unit = shifted / np.linalg.norm(shifted, axis=0)
    parallel = np.triu(np.abs(unit.T @ unit) > 1 - ROUNDING, k=1)
    if parallel.any():
        a, b = np.argwhere(parallel)[0]
        raise DataError(
            f"The design columns {terms[columns[a]]!r} and {terms[columns[b]]!r} of {stem!r} are "
            "duplicates of each other (up to shift and scale). Remove one."
        )


def _check_combinations(values: np.ndarray, terms: tuple[str, ...], stem: str) -> None:
    """Raise :class:`DataError` for products of categories with a combination in no row.

    Columns of a product and of its factors are as many as the combinations. If the reference
    categories are in no row together, no single column is 0.
    """
    import pandas as pd

    # formulaic writes the category of a dummy variable in brackets.
    factors = [
        frozenset(part.split("[")[0] for part in parts)
        if all("[" in part for part in parts)
        else None
        for parts in (term.split(":") for term in terms)
    ]
    for product in {f for f in factors if f and len(f) > 1}:
        block = [j for j, f in enumerate(factors) if terms[j] == INTERCEPT or (f and f <= product)]
        cells = pd.DataFrame(values[:, block]).drop_duplicates().to_numpy()
        if len(cells) < len(block) and np.array_equal(cells, np.rint(cells)):
            raise DataError(
                f"The product of {' and '.join(map(repr, sorted(product)))} in {stem!r} has "
                f"{len(block)} design columns for {len(cells)} combinations: {EMPTY_CELL}"
            )

"""Limits of responses that are not there: missing or infinite cells of columns, and their masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.data.censored_response import Limits
from bayes_moe.data.formulas import used_columns

if TYPE_CHECKING:
    import pandas as pd


def open_ends(
    limits: Limits | None, columns: pd.DataFrame, others: Iterable[str]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Columns with a number in place of bounds that are missing or infinite, and masks of these.

    Only columns are filled that no other formula and no observed response has: ``others`` are
    those.
    """
    if limits is None:
        return columns, {}
    available = list(columns.columns)
    fixed = [part for part in (limits.value, limits.status) if part is not None]
    kept = {*used_columns([*fixed, *others], available)}
    masks: dict[str, np.ndarray] = {}
    for name in used_columns(list(limits.bounds), available):
        if name in kept or columns[name].dtype.kind not in "iufO":
            continue
        try:
            numbers = columns[name].to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):
            continue  # no numbers, of which the formula's check tells
        absent = ~np.isfinite(numbers)
        if absent.any():
            there = numbers[~absent]
            filled = np.where(absent, there[0] if there.size else 1.0, numbers)
            columns = columns.assign(**{name: filled})
            masks[name] = absent
    return columns, masks


def open_terms(limits: Limits, gaps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks (obs,) by term of bounds without a value, from those of the columns."""
    found = {}
    for term in limits.bounds:
        masks = [gaps[name] for name in used_columns([term], list(gaps), strict=False)]
        if masks:
            found[term] = np.logical_or.reduce(masks)
    return found

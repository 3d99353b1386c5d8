"""Rows of which predictions are of what is recorded: within the limits of their table."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.model.spec import MixtureOfExperts


def with_limits(spec: MixtureOfExperts, design: Design, rows: Rows, data: Any = None) -> Rows:
    """Rows of a table with the limits of what is recorded; the fitted ones for None.

    Rows of a response without limits are left as they are: it is recorded as it is.

    Raises
    ------
    DataError
        As :meth:`Design.recording` does, and for limits of counts that are not whole.
    """
    limits = design.recording(data)
    if limits is None:
        return rows
    if data is None and len(rows.obs_id) < len(design.rows.obs_id):
        limits = limits[:, np.isin(design.rows.obs_id, rows.obs_id)]
    if spec.structure.discrete:
        _check_whole(spec.response, limits[2:], rows.obs_id)
    return rows.with_limits(limits)


def _check_whole(response: str, limits: np.ndarray, obs_id: np.ndarray) -> None:
    """Raise :class:`DataError` for limits of censored counts that are no counts."""
    wrong = np.argwhere(np.isfinite(limits) & (np.floor(limits) != limits))
    if wrong.size:
        side, at = wrong[0]
        raise DataError(
            f"The response {response!r} of row {obs_id[at]} is censored at {limits[side, at]:g}, "
            "which is no count, so it is not known what would be recorded: give whole limits."
        )


def check_uncut(rows: Rows, what: str, instead: str) -> None:
    """Raise :class:`SpecError` for what predictions of recorded responses do not have."""
    if rows.observation.limits is not None:
        raise SpecError(
            f"Predictions with observed=True have no {what}, since recorded responses have a "
            f"probability at limits that differ by row: use {instead}, or observed=False for the "
            "response itself."
        )

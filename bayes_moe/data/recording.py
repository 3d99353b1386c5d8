"""Limits of what is recorded of rows: those of a truncation, and those of censoring."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.censored_response import CENSORED, Limits, limits_of


def recording_terms(limits: Limits) -> tuple[str, ...]:
    """Terms whose columns say what is recorded: all but a response that has stated limits."""
    if limits.value is None or limits.status is not None:
        return limits.parts
    return limits.bounds


def recording_limits(
    limits: Limits, values: np.ndarray, open_ends: Mapping[str, np.ndarray], obs_id: np.ndarray
) -> np.ndarray:
    """Limits (4, obs) of what is recorded: of the truncation, and of censoring.

    Responses up to the third limit are recorded as that, those from the fourth as that. A limit of
    censoring is a stated one, or the value of a row that was censored on that side. Other arguments
    are those of :meth:`Limits.rows`.

    Raises
    ------
    DataError
        For rows of which no limit of censoring is known, and limits without room between them.
    """
    end = limits.ends(values, open_ends)
    bottom, top = end(limits.bottom, -np.inf), end(limits.top, np.inf)
    left, right = end(limits.left, -np.inf), end(limits.right, np.inf)
    if limits.value is None or limits.status is not None:
        lower, upper = limits.interval(end)
        left = np.where(np.isneginf(lower), upper, left)
        right = np.where(np.isposinf(upper), lower, right)
        _check_known(limits, np.isfinite(left) | np.isfinite(right), obs_id)
    for low, high in ((bottom, top), (left, right), (bottom, right), (left, top)):
        limits.check(low >= high, obs_id, "has no room between the limits", low, high)
    return np.stack([bottom, top, left, right])


def unstated_limits(response: str) -> bool:
    """Whether a left-hand side has censored responses whose limits it does not state."""
    limits = limits_of(response)
    return limits is not None and (limits.value is None or limits.status is not None)


def uncut(limits: np.ndarray) -> np.ndarray:
    """Limits (4, obs) with those of a truncation (2 or 4, obs), and none of censoring."""
    none = np.full(limits.shape[1:], np.inf)
    return np.stack([*limits[:2], -none, none])


def _check_known(limits: Limits, known: np.ndarray, obs_id: np.ndarray) -> None:
    """Raise :class:`DataError` for rows without a limit at which they would be censored."""
    unknown = np.flatnonzero(~known)
    if unknown.size:
        raise DataError(
            f"What would be recorded of {limits.response!r} is not known at row "
            f"{obs_id[unknown[0]]} ({unknown.size} row(s)): the row was not censored, or is "
            "between two limits, so its columns do not say where it would be. State limits in the "
            f"formula, as in {CENSORED}(y, lower=0) or {CENSORED}(y, upper=limit), or give rows "
            "whose status says on which side the value is a limit. Predictions with observed=False "
            "are of the response itself and need no limits."
        )

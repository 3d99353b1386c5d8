"""Responses of a formula: one, or those of ``cbind(y1, y2)``, each a column or an expression.

The values of several responses are an array (response, obs), those of one (obs,). Responses that
are censored or truncated are in :mod:`bayes_moe.data.censored_response`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.censored_response import Limits, arguments, limits_of
from bayes_moe.data.open_ends import open_terms

CALL = re.compile(r"\s*cbind\s*\((.*)\)\s*", re.DOTALL)


def response_parts(response: str) -> tuple[str, ...]:
    """Responses of a left-hand side: itself, or the arguments of ``cbind``.

    Raises
    ------
    SpecError
        For a ``cbind`` of fewer than two responses, of equal ones, or of what is no column or
        function of columns.
    """
    found = CALL.fullmatch(response)
    if found is None:
        return (response,)
    from bayes_moe.data.formula_parser import is_one_factor

    parts = tuple(part.strip() for part in arguments(found.group(1)))
    for part in parts:
        if not is_one_factor(part):
            raise SpecError(
                f"{part!r} in {response!r} is no response: give columns or functions of columns, "
                "such as cbind(y1, log(y2))."
            )
    if len({*parts}) < max(len(parts), 2):
        raise SpecError(f"{response!r} must have at least two responses, all different.")
    return parts


def response_columns(response: str) -> tuple[str, ...]:
    """Terms whose columns are read of a left-hand side: its responses, or a status and limits."""
    limits = limits_of(response)
    return response_parts(response) if limits is None else limits.parts


def response_formula(response: str) -> str:
    """Formula whose columns are the responses of a left-hand side, in their order."""
    return " + ".join(response_columns(response))


def response_names(response: str) -> tuple[str, ...]:
    """Names of responses for variables: identifiers, such as ``log_y`` of ``log(y)``.

    Raises
    ------
    SpecError
        For responses whose names would be equal.
    """
    parts = response_parts(response)
    found = tuple(re.sub(r"\W+", "_", part).strip("_") or "y" for part in parts)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise SpecError(
            f"Two responses of {response!r} would have variables called {twice[0]!r}: make a "
            "column of another name."
        )
    return found


def response_dims(response: str) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Dimensions of the responses of rows, and labels of several responses."""
    parts = response_parts(response)
    if len(parts) == 1:
        return (names.OBS,), {}
    return (names.OBS, names.RESPONSE_DIM), {names.RESPONSE_DIM: list(parts)}


def value_dims(response: str) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """As :func:`response_dims`, of all numbers of a row: of a censored one, what is known of it."""
    limits = limits_of(response)
    if limits is None:
        return response_dims(response)
    return (names.OBS, names.LIMIT_DIM), {names.LIMIT_DIM: list(limits.numbers)}


def response_values(
    response: str,
    values: np.ndarray,
    limits: Limits | None = None,
    gaps: Mapping[str, np.ndarray] = MappingProxyType({}),
    obs_id: np.ndarray | None = None,
) -> np.ndarray:
    """Response (obs,), or (response, obs) of several, from a formula's values (obs, column).

    What is known of a censored or truncated one is (number, obs): ``gaps`` are masks (obs,) of
    limits that are not there, by column, and ``obs_id`` (obs,) names rows in errors.

    Raises
    ------
    DataError
        For a response that makes several columns, such as one of categories.
    """
    parts = response_columns(response)
    if values.shape[1] != len(parts):
        raise DataError(
            f"The response {response!r} makes {values.shape[1]} columns; it must be "
            f"{'one' if len(parts) == 1 else len(parts)}, and numeric."
        )
    if limits is not None:
        labels = np.arange(len(values)) if obs_id is None else obs_id
        return limits.rows(values, open_terms(limits, gaps), labels)
    return values[:, 0] if len(parts) == 1 else np.ascontiguousarray(values.T)

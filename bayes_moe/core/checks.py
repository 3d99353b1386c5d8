"""Checks of arguments: whole number, positive number, share, one of a list of names, identifier.

All raise :class:`~bayes_moe.core.errors.SpecError` and name the argument and its value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError, unknown


def is_number(value: Any) -> bool:
    """Whether a value is an int, a float or a NumPy number; bool does not count."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is an int or a NumPy integer; bool does not count."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise :class:`SpecError` unless a setting is a whole number from ``least`` to ``most``."""
    if not is_whole(value) or value < least:
        raise SpecError(f"`{name}` must be a whole number >= {least}; it is {value!r}.")
    if most is not None and value > most:
        raise SpecError(f"`{name}` must be at most {most}; it is {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raise :class:`SpecError` unless a setting is a finite positive number."""
    if not is_number(value) or not np.isfinite(value) or value <= 0:
        raise SpecError(f"`{name}` must be a positive number; it is {value!r}.")


def check_number(name: str, value: Any) -> None:
    """Raise :class:`SpecError` unless a setting is a finite number."""
    if not is_number(value) or not np.isfinite(value):
        raise SpecError(f"`{name}` must be a finite number; it is {value!r}.")


def check_share(name: str, value: Any) -> None:
    """Raise :class:`SpecError` unless a setting is a number strictly between 0 and 1."""
    if not is_number(value) or not 0 < value < 1:
        raise SpecError(f"`{name}` must lie strictly between 0 and 1; it is {value!r}.")


def check_between(name: str, value: Any, least: float, most: float) -> None:
    """Raise :class:`SpecError` unless a setting is a number from ``least`` to ``most``."""
    if not is_number(value) or not least <= value <= most:
        raise SpecError(f"`{name}` must lie between {least} and {most}; it is {value!r}.")


def as_numbers(name: str, value: Any) -> np.ndarray:
    """Return an argument as an array of floats; :class:`SpecError` if it is not all numbers."""
    try:
        values = np.asarray(value)
        # Objects may be numbers, as in pandas' columns with missing values.
        is_none = values.dtype.kind == "O" and any(item is None for item in values.flat)
        if is_none or (values.size and values.dtype.kind not in "iufO"):
            raise TypeError
        return values.astype(float)
    except (TypeError, ValueError) as error:
        raise SpecError(f"`{name}` must be a number or numbers; it is {value!r}.") from error


def check_one_of(kind: str, value: Any, valid: Iterable[str]) -> None:
    """Raise :class:`SpecError` unless a setting is a valid name; the message offers the nearest."""
    names = list(valid)
    if value not in names:
        raise SpecError(unknown(kind, value, names))


def check_identifier(what: str, value: Any) -> None:
    """Raise :class:`SpecError` unless a value is a string that is a Python identifier."""
    if not isinstance(value, str) or not value.isidentifier():
        raise SpecError(f"{what} must be an identifier; it is {value!r}.")

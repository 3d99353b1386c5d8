"""Checks of arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise :class:`SpecError` unless a setting is a whole number of at least ``least``."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise SpecError(f"`{name}` must be a whole number >= {least}; it is {value!r}.")

"""JSON of a file that anyone may have written: bounded in depth and numbers, and without NaN."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

DEEPEST = 80
"""Levels of lists and mappings within each other."""

LONGEST_INTEGER = 25
"""Digits of a whole number."""


def parse(text: Any) -> Any:
    """Value of a JSON text.

    Raises
    ------
    ValueError
        If it is no JSON text, or is nested deeper than :data:`DEEPEST`, has a name twice in one
        mapping, or a number that is not finite or longer than :data:`LONGEST_INTEGER` digits.
    """
    if not isinstance(text, str):
        raise ValueError("the description is no text")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_mapping,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError as error:
        raise ValueError("the description is nested too deeply") from error
    _check_depth(value)
    return value


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name is twice in one mapping of the description")
    return mapping


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text:.30} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"the description has a whole number of {len(text)} digits")
    return int(text)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"the description is nested deeper than {DEEPEST} levels")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner

"""Kernels of the families: compiled from the text that their row formulas are written to."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from numba.extending import register_jitable

from bayes_moe.families import Family
from bayes_moe.families.derivation import variadic
from bayes_moe.families.functions import FUNCTIONS
from bayes_moe.kernels import elementary, special
from bayes_moe.kernels.elementary import FUSED
from bayes_moe.kernels.family_rows import LARGEST, MORE, Kernel


@cache
def has_kernel(family: Family) -> bool:
    """Whether all functions in a family's formula and scores have a compiled form."""
    if len(family.slots) > LARGEST or family.more_data > MORE:
        return False
    return all(_compiled(name) is not None for name in _used(family.kernel_text))


@cache
def kernel_of(family: Family) -> Kernel:
    """Kernel of a family: the log density of a row and its derivatives by the predictors."""
    text = family.kernel_text
    namespace: dict[str, Any] = {"inf": math.inf}
    namespace |= {name: _compiled(name) for name in _used(text)}
    namespace |= {f"{name}_{n}": _compiled(name)(n) for name, n in variadic(text)}
    exec(text, namespace)
    row = register_jitable(fastmath=FUSED, forceinline=True)(namespace["row"])
    return Kernel(row, len(family.slots), text, family.more_data)


def _used(text: str) -> list[str]:
    """Names of the functions that a source text calls."""
    return sorted({*re.findall(r"\b([a-z_]\w*)\(", text)} & {*FUNCTIONS})


def _compiled(name: str) -> Any:
    """The compiled form of a function; None if there is none."""
    return getattr(elementary, name, None) or getattr(special, name, None)

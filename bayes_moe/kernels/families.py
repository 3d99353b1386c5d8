"""Kernels of the families: compiled from the text that their row formulas are written to."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from numba.extending import register_jitable

from bayes_moe.families import Family
from bayes_moe.families.derivation import has_loops, variadic
from bayes_moe.families.functions import FUNCTIONS
from bayes_moe.families.tail_rules import TOGETHER
from bayes_moe.kernels import elementary, shape_tails, skew_tail, special
from bayes_moe.kernels.elementary import FUSED
from bayes_moe.kernels.family_rows import LARGEST, MORE, Kernel

MODULES = (elementary, special, shape_tails, skew_tail)
NAMES = {*FUNCTIONS, *(name for name, _ in TOGETHER.values())}
"""Functions that a kernel's source may call."""


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
    inlined = {} if has_loops(text) else {"forceinline": True}
    row = register_jitable(fastmath=FUSED, **inlined)(namespace["row"])
    return Kernel(row, len(family.slots), text, family.more_data)


def _used(text: str) -> list[str]:
    """Names of the functions that a source text calls."""
    return sorted({*re.findall(r"\b([a-z_]\w*)\(", text)} & NAMES)


def _compiled(name: str) -> Any:
    """The compiled form of a function; None if there is none."""
    found = (getattr(module, name, None) for module in MODULES)
    return next((function for function in found if function is not None), None)

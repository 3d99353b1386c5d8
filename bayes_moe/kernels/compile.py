"""C functions by numba, kept on disk: compiled once a machine, and loaded in later processes.

Numba tells whether a kept function is still good by the time stamp of the file that defines it, and
does not see that a function which it calls has changed. So every compiled function closes over
``VERSION``, a digest of all the sources that are compiled: a change of any makes another entry.

A home folder that cannot be written is no error: the functions are then compiled in each process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import carray, float64, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

import bayes_moe.families.student_t
import bayes_moe.priors.densities

REORDERED = {"contract", "reassoc", "nsz"}
"""Sums over rows may be taken in any order, so that they run in parallel."""

_TEXTS = [
    *sorted(Path(__file__).parent.glob("*.py")),
    Path(bayes_moe.priors.densities.__file__),
    Path(bayes_moe.families.student_t.__file__),
]
VERSION = sha256(b"".join(p.read_bytes() for p in _TEXTS if p.is_file())).hexdigest()


@cache
def c_function(signature: Any, function: Callable[..., Any]) -> Any:
    """Compile a function of numbers and addresses; its ``address`` is what C calls."""
    options = {"nopython": True, "error_model": "numpy", "fastmath": REORDERED}
    try:
        return numba.cfunc(signature, cache=True, **options)(function)
    except Exception:  # nowhere to keep it, or what was kept is damaged; other errors come again
        return numba.cfunc(signature, cache=False, **options)(function)


@intrinsic
def pointer(_: Any, address: Any) -> Any:
    """Return the pointer at an address."""

    def codegen(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


@register_jitable
def doubles(address: int, count: int) -> Any:
    """Return the array of numbers at an address."""
    return carray(pointer(address), count, float64)


def _caller(result: Any, arguments: int) -> Any:
    """Return an intrinsic that calls the C function at an address, given whole numbers."""
    integer = ir.IntType(64)
    returned = ir.DoubleType() if result is types.float64 else integer

    def codegen(_: Any, builder: Any, __: Any, given: Any) -> Any:
        kind = ir.FunctionType(returned, [integer] * arguments).as_pointer()
        return builder.call(builder.inttoptr(given[0], kind), given[1:])

    return codegen


@intrinsic
def call_rows(_: Any, address: Any, scratch: Any, shared: Any, packs: Any) -> Any:
    """Call the rows of a family: see :mod:`bayes_moe.kernels.family_rows`."""
    return types.int64(*[types.int64] * 4), _caller(types.int64, 3)


@intrinsic
def call_prior(_: Any, address: Any, values: Any, arguments: Any, count: Any, slopes: Any) -> Any:
    """Call a prior density: see :mod:`bayes_moe.kernels.priors`."""
    return types.float64(*[types.int64] * 5), _caller(types.float64, 4)

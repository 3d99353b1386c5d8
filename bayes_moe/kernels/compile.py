"""C functions by numba, cached on disk: compiled once a machine, and loaded in later processes.

Numba's cache compares the time stamp of the file that defines a function, but not those of the
files of functions that it calls. So every compiled function closes over ``VERSION``, a digest of
all sources that are compiled: a change of any of them makes another cache entry.

Without a writable cache folder the functions are compiled in each process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any

import numba
from llvmlite import ir
from numba import carray, float64, types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

import bayes_moe.families.student_t
import bayes_moe.priors.coordinates
import bayes_moe.priors.formulas

REORDERED = {"contract", "reassoc", "nsz"}
"""Fast-math flags of sums over rows: any order of summation, so that they vectorise."""

DOUBLE_SIZE = 8
"""Bytes of a double."""

DOUBLES = types.CPointer(float64)
DENSITY = types.int64(types.uint64, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
"""Signature of a log density: ``(size, point, gradient, value, table) -> status``."""
COPY = types.int64(types.uint64, types.uint64, DOUBLES, DOUBLES, types.voidptr)
"""Signature of what stores a draw for a sampler: ``(size, stored size, point, stored, table)``."""

_TEXTS = [
    *sorted(Path(__file__).parent.glob("*.py")),
    Path(bayes_moe.priors.formulas.__file__),
    Path(bayes_moe.priors.coordinates.__file__),
    Path(bayes_moe.families.student_t.__file__),
]
VERSION = sha256(b"".join(p.read_bytes() for p in _TEXTS if p.is_file())).hexdigest()


@cache
def c_function(signature: Any, function: Callable[..., Any]) -> Any:
    """The compiled function of numbers and addresses; C calls its ``address``."""
    options = {"nopython": True, "error_model": "numpy", "fastmath": REORDERED}
    try:
        return numba.cfunc(signature, cache=True, **options)(function)
    # No writable cache folder, or a damaged entry: numba has no exception of its own for either.
    # Any other error is raised again by the second attempt.
    except Exception:
        return numba.cfunc(signature, cache=False, **options)(function)


def once[Result](function: Callable[[], Result]) -> Callable[[], Result]:
    """Return the function, run by the first of several threads that call it."""
    kept = cache(function)

    @wraps(function)
    def result() -> Result:
        with _compiling:
            return kept()

    return result


_compiling = RLock()


@intrinsic
def pointer(_: Any, address: Any) -> Any:
    """Pointer at an address."""

    def codegen(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


@register_jitable
def doubles(address: int, count: int) -> Any:
    """Array (count,) of doubles at an address."""
    return carray(pointer(address), count, float64)


def _caller(result: Any, arguments: int) -> Any:
    """Code generator of an intrinsic that calls the C function at an address on whole numbers.

    An argument that is an array is its address, and lives until the function has returned: one of
    which only ``.ctypes.data`` is given may be freed before the call.
    """
    integer = ir.IntType(64)
    returned = ir.DoubleType() if result is types.float64 else integer

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function_type = ir.FunctionType(returned, [integer] * arguments).as_pointer()
        numbers = []
        for kind, value in zip(signature.args[1:], values[1:], strict=True):
            if isinstance(kind, types.Array):
                data = context.make_array(kind)(context, builder, value).data
                numbers.append(builder.ptrtoint(data, integer))
            else:
                numbers.append(value)
        return builder.call(builder.inttoptr(values[0], function_type), numbers)

    return codegen


@intrinsic
def call_rows(_: Any, address: Any, scratch: Any, shared: Any, packs: Any) -> Any:
    """Status of the row loop of a family: see :mod:`bayes_moe.kernels.family_rows`."""
    return types.int64(*[types.int64] * 4), _caller(types.int64, 3)


@intrinsic
def call_prior(_: Any, address: Any, values: Any, arguments: Any, count: Any, slopes: Any) -> Any:
    """Log density of a prior: see :mod:`bayes_moe.kernels.priors`."""
    return types.float64(*[types.int64] * 5), _caller(types.float64, 4)


@intrinsic
def call_chains(
    _: Any,
    address: Any,
    sizes: Any,
    starts: Any,
    densities: Any,
    logits: Any,
) -> Any:
    """Log likelihood of chains: see :mod:`bayes_moe.kernels.chains`."""
    return types.float64(types.int64, sizes, types.int64, densities, logits), _caller(
        types.float64, 4
    )


@intrinsic
def call_density(
    _: Any, address: Any, size: Any, point: Any, gradient: Any, value: Any, model: Any
) -> Any:
    """Status of a compiled log density: see :mod:`bayes_moe.kernels.linear_model`."""
    return types.int64(*[types.int64] * 6), _caller(types.int64, 5)


@intrinsic
def call_job(_: Any, address: Any, job: Any) -> Any:
    """Result of a function of a job (number,), such as :mod:`bayes_moe.kernels.recurrent`."""
    return types.int64(types.int64, job), _caller(types.int64, 1)

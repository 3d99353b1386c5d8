"""Sums of products of features with coefficients for a few rows at a time, in registers.

The code is written as vectors of LLVM: in loops over arrays it loads and stores each sum once for
every feature, as arrays may overlap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bayes_moe.kernels.compile import DOUBLE_SIZE

LANES = 8
"""Rows of a tile, of which a chunk has a whole number."""
DOUBLE = ir.DoubleType()
VECTOR, FIRST = ir.VectorType(DOUBLE, LANES), ir.VectorType(ir.IntType(32), LANES)


def _tile(outputs: int) -> Any:
    """The function that adds ``coefs . features`` to so many outputs, for ``LANES`` rows.

    Its arguments are the addresses of the first output, of the coefficients (output, term), and of
    the features; the number of terms; and the distances between outputs and between terms, in
    numbers.
    """

    def codegen(_: Any, builder: Any, __: Any, values: Any) -> Any:
        out, coefs, features, terms, between, stride = values
        places = [builder.mul(_whole(j), between) for j in range(outputs)]
        firsts = [builder.mul(_whole(j), terms) for j in range(outputs)]
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in places]
        for total, place in zip(sums, places, strict=True):
            found = builder.load(_at(builder, out, place, VECTOR), align=DOUBLE_SIZE)
            builder.store(found, total)
        with cgutils.for_range(builder, terms) as loop:
            row = _at(builder, features, builder.mul(loop.index, stride), VECTOR)
            feature = builder.load(row, align=DOUBLE_SIZE)
            for total, first in zip(sums, firsts, strict=True):
                coef = builder.load(_at(builder, coefs, builder.add(first, loop.index), DOUBLE))
                product = builder.fmul(_repeated(builder, coef), feature, flags=("contract",))
                found = builder.fadd(builder.load(total), product, flags=("contract",))
                builder.store(found, total)
        for total, place in zip(sums, places, strict=True):
            builder.store(builder.load(total), _at(builder, out, place, VECTOR), align=DOUBLE_SIZE)
        return _whole(0)

    def tile(
        _: Any, out: Any, coefs: Any, features: Any, terms: Any, between: Any, stride: Any
    ) -> Any:
        return types.int64(*[types.int64] * 6), codegen

    return intrinsic(tile)


def _whole(number: int) -> Any:
    return ir.Constant(ir.IntType(64), number)


def _at(builder: Any, address: Any, position: Any, kind: Any) -> Any:
    """Pointer at a number of an array."""
    moved = builder.add(address, builder.mul(position, _whole(DOUBLE_SIZE)))
    return builder.inttoptr(moved, kind.as_pointer())


def _repeated(builder: Any, number: Any) -> Any:
    """Vector of one number."""
    first = ir.Constant(ir.IntType(32), 0)
    alone = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, first)
    return builder.shuffle_vector(alone, alone, ir.Constant(FIRST, [first] * LANES))


tile_1, tile_2, tile_3, tile_4 = (_tile(outputs) for outputs in range(1, 5))

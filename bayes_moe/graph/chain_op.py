"""Log densities of rows whose experts are a Markov chain, as PyTensor operations.

Numba compiles the recursions of :mod:`bayes_moe.kernels.chain_adjoint`, other linkers call them as
C functions, and for JAX they are replaced by scans (:mod:`bayes_moe.graph.chain_jax`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType, disconnected_type, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch import basic as numba_basic


class ChainValues(Op):
    """Log density of each row given those before, and log probabilities predicted from these.

    Inputs are log densities (expert, obs), logits of the transitions into each row (from and to,
    obs), or (from and to, 1) if they are the same at all rows, and the series (obs,) of each row as
    a whole number, whose rows are in the order of time. Outputs are (obs,) and (expert, obs).

    Parameters
    ----------
    is_stationary : bool
        Whether a series begins with the stationary distribution of its first transitions, not with
        equal probabilities.
    """

    __props__ = ("is_stationary",)

    def __init__(self, is_stationary: bool) -> None:
        self.is_stationary = is_stationary

    def make_node(self, *values: Any) -> Apply:
        inputs = _inputs(*values)
        return Apply(self, inputs, [pt.vector(dtype="float64"), pt.matrix(dtype="float64")])

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        return [(shapes[0][1],), shapes[0]]

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        from bayes_moe.kernels import chain_adjoint

        densities, logits, series = map(_doubles, inputs)
        value, predicted = np.empty(densities.shape[1]), np.empty(densities.shape)
        sizes = (*densities.shape, logits.shape[1], int(self.is_stationary))
        arrays = (series, densities, logits, value, predicted)
        _call(chain_adjoint.values(), sizes, arrays)
        outputs[0][0], outputs[1][0] = value, predicted

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        by_value, by_predicted = cotangents
        if not isinstance(by_predicted.type, DisconnectedType):
            why = "the probabilities that a Markov chain predicts have no derivatives here"
            unknown = [grad_not_implemented(self, j, x, why) for j, x in enumerate(inputs[:2])]
            return [*unknown, disconnected_type()]
        slopes: Any = ChainSlopes(self.is_stationary)(*inputs, by_value)
        return [*slopes, disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True, True], [True, True], [False, False]]


class ChainSlopes(Op):
    """Derivatives of a function of the first output of :class:`ChainValues` by its first inputs.

    Inputs are those, and the function's derivatives (obs,) by the log densities of rows.
    """

    __props__ = ("is_stationary",)

    def __init__(self, is_stationary: bool) -> None:
        self.is_stationary = is_stationary

    def make_node(self, *values: Any) -> Apply:
        *first, by_value = values
        inputs: list[Any] = [*_inputs(*first), pt.as_tensor(by_value, dtype="float64")]
        return Apply(self, inputs, [pt.matrix(dtype="float64"), inputs[1].type()])

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        return [shapes[0], shapes[1]]

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        from bayes_moe.kernels import chain_adjoint

        densities, logits, series, by_value = map(_doubles, inputs)
        found = np.empty(densities.shape), np.empty(logits.shape)
        sizes = (*densities.shape, logits.shape[1], int(self.is_stationary))
        _call(chain_adjoint.slopes(), sizes, (series, densities, logits, by_value, *found))
        outputs[0][0], outputs[1][0] = found

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        why = "second derivatives of the likelihood of a Markov chain have no formula here"
        return [grad_not_implemented(self, j, x, why) for j, x in enumerate(inputs)]


def chain_values(densities: Any, logits: Any, series: Any, is_stationary: bool) -> tuple[Any, Any]:
    """Symbolic outputs of :class:`ChainValues`."""
    found: Any = ChainValues(is_stationary)(densities, logits, series)
    return found[0], found[1]


def _inputs(densities: Any, logits: Any, series: Any) -> list[Any]:
    numbers = [pt.as_tensor(x, dtype="float64") for x in (densities, logits)]
    return [*numbers, pt.cast(pt.as_tensor(series), "int64")]


def _doubles(values: Any) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=float)


def _call(function: Any, sizes: Sequence[int], arrays: Sequence[np.ndarray]) -> None:
    """Call a C function with whole numbers and the addresses of arrays, the series as doubles."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    numbers = np.array(sizes, dtype=np.int64)
    addresses = np.array([a.ctypes.data for a in arrays], dtype=np.int64)
    prototype(function.address)(numbers.ctypes.data, addresses.ctypes.data)


# --- numba ---------------------------------------------------------------------------------------


def numba_function(arguments: str, name: str, *settings: int) -> tuple[Any, str]:
    """The compiled function of an operation, and the key of its cache entry.

    It is the function ``name`` of :mod:`bayes_moe.kernels.chain_adjoint`, with settings as its last
    arguments.
    """
    from bayes_moe.kernels import chain_adjoint
    from bayes_moe.kernels.compile import VERSION

    passed = ", ".join([arguments, *map(str, settings)])
    text = f"def chain({arguments}):\n    return {name}({passed})"
    function = compile_numba_function_src(text, "chain", {name: getattr(chain_adjoint, name)})
    key = sha256((VERSION + text).encode()).hexdigest()
    return numba_basic.numba_njit(function, error_model="numpy"), key


@numba_basic.register_funcify_and_cache_key(ChainValues)
def _numba_values(op: ChainValues, node: Apply, **_: Any) -> tuple[Any, str]:
    return numba_function("densities, logits, series", "chain_values", int(op.is_stationary))


@numba_basic.register_funcify_and_cache_key(ChainSlopes)
def _numba_slopes(op: ChainSlopes, node: Apply, **_: Any) -> tuple[Any, str]:
    arguments = "densities, logits, series, by_value"
    return numba_function(arguments, "chain_slopes", int(op.is_stationary))


# --- JAX -----------------------------------------------------------------------------------------


@node_rewriter([ChainValues, ChainSlopes])
def _as_scans(fgraph: Any, node: Apply) -> list[Any]:
    """Replace an operation by a scan over the rows, which JAX compiles and differentiates."""
    from bayes_moe.graph.chain_jax import scans

    found: Any = scans(node, isinstance(node.op, ChainSlopes), node.op.is_stationary)
    return list(found)


optdb.register("chains_as_scans", dfs_rewriter(_as_scans), "jax", position=0.06)

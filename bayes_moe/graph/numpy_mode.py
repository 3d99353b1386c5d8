"""PyTensor functions evaluated by NumPy: compiled in about a second, a pass over arrays a step.

PyTensor loops over the elements in Python where an elementwise operation has no ufunc: of those in
this package's formulas, ``softplus``. For other operations on short arrays, its checks cost more
than the arithmetic. So NumPy functions are called directly here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.utils import import_func_from_string

from bayes_moe.core.arrays import NUMERIC

REPLACEMENTS = {"Softplus": (NUMERIC.softplus, 1), "Sigmoid": (NUMERIC.sigmoid, 1)}
"""Functions in place of PyTensor's implementations, and their numbers of arguments."""
POSITION = 48.0
"""Position of the rewrite: after all rewrites that match the operations it replaces."""


class Elementwise(Op):
    """An elementwise operation computed by a NumPy function, without PyTensor's checks.

    ``known`` is PyTensor's operation. A function of two arguments is reduced over more of them.
    """

    __props__ = ("known",)

    def __init__(self, known: Elemwise, function: Callable[..., Any], arguments: int) -> None:
        self.known = known
        self.function = function
        self.arguments = arguments

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, list(inputs), [v.type() for v in self.known.make_node(*inputs).outputs])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if len(inputs) == self.arguments:
            result = self.function(*inputs)
        else:
            result = reduce(self.function, inputs)
        output: Any = node.outputs[0].type
        outputs[0][0] = np.asarray(result, dtype=output.dtype)


def compiled(model: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[..., Any]:
    """Function of a PyMC model's graph, from NumPy arrays to NumPy arrays, by position.

    It is not thread-safe: PyTensor functions keep their inputs and outputs in shared storage.
    """
    function = model.compile_fn(
        list(outputs), inputs=list(inputs), mode=mode(), point_fn=False, on_unused_input="ignore"
    )

    def call(*values: Any) -> Any:
        # Far from a mode densities overflow: callers treat what is not finite.
        with np.errstate(all="ignore"):
            return function(*values)

    return call


@node_rewriter([Elemwise])
def _by_numpy(fgraph: Any, node: Apply) -> list[Any] | None:
    """Replace an operation for which NumPy, SciPy or this package has a function."""
    op: Elemwise = node.op
    function, arguments = REPLACEMENTS.get(type(op.scalar_op).__name__, (None, 0))
    if function is None and op.nfunc_spec is not None:
        function, arguments = import_func_from_string(op.nfunc_spec[0]), op.nfunc_spec[1]
    if function is None or op.inplace_pattern or len(node.outputs) > 1:
        return None
    if len(node.inputs) != arguments and (arguments != 2 or len(node.inputs) < 2):
        return None
    return list(Elementwise(op, function, arguments).make_node(*node.inputs).outputs)


@cache
def mode() -> Mode:
    """Compilation mode of :func:`compiled`."""
    rewrites = RewriteDatabaseQuery(include=["fast_compile", "py_only"])
    return Mode("py", rewrites).register((dfs_rewriter(_by_numpy), POSITION))

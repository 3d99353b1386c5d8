"""PyTensor functions that NumPy runs: compiled in about a second, each step one pass over arrays.

Where an elementwise operation has no ufunc, PyTensor goes through arrays element by element in
Python: of those in this package's formulas, ``softplus``. Others cost more in checks than in
arithmetic, as long as arrays are short.
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

OWN = {"Softplus": (NUMERIC.softplus, 1), "Sigmoid": (NUMERIC.sigmoid, 1)}
"""Functions in place of PyTensor's own, and their numbers of arguments."""


LAST = 48.0
"""When operations are replaced: after all rewrites that know them."""


class Elementwise(Op):
    """An elementwise operation that a NumPy function computes, without checks of its own.

    ``known`` is PyTensor's operation; a function of two arguments takes more of them in turn.
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
            found = self.function(*inputs)
        else:
            found = reduce(self.function, inputs)
        kind: Any = node.outputs[0].type
        outputs[0][0] = np.asarray(found, dtype=kind.dtype)


def compiled(model: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Callable[..., Any]:
    """Compile a PyMC model's graph; the function takes and returns NumPy arrays by position.

    A function's storage serves one call at a time.
    """
    function = model.compile_fn(
        list(outputs), inputs=list(inputs), mode=mode(), point_fn=False, on_unused_input="ignore"
    )

    def call(*values: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*values)

    return call


@node_rewriter([Elemwise])
def _by_numpy(fgraph: Any, node: Apply) -> list[Any] | None:
    """Replace an operation that a function of NumPy's, SciPy's or this package's computes."""
    op: Elemwise = node.op
    function, arguments = OWN.get(type(op.scalar_op).__name__, (None, 0))
    if function is None and op.nfunc_spec is not None:
        function, arguments = import_func_from_string(op.nfunc_spec[0]), op.nfunc_spec[1]
    if function is None or op.inplace_pattern or len(node.outputs) > 1:
        return None
    if len(node.inputs) != arguments and (arguments != 2 or len(node.inputs) < 2):
        return None
    return list(Elementwise(op, function, arguments).make_node(*node.inputs).outputs)


@cache
def mode() -> Mode:
    """Return the mode of compilation."""
    rewrites = RewriteDatabaseQuery(include=["fast_compile", "py_only"])
    return Mode("py", rewrites).register((dfs_rewriter(_by_numpy), LAST))

"""Draws of the experts of rows along a Markov chain, in PyMC's graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import basic as numba_basic

from bayes_moe.graph.chain_op import chain_values, numba_function


class ChainPath(Op):
    """Experts (obs,) of rows, from draws of each row's expert under each expert of the row before.

    Inputs are these draws (obs, from), draws for a row that begins a series (obs,), and the series
    (obs,) of rows, each in the order of time.
    """

    __props__ = ()

    def make_node(self, *values: Any) -> Apply:
        inputs = [pt.cast(pt.as_tensor(x), "int64") for x in values]
        return Apply(self, inputs, [pt.vector(dtype="int64")])

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        return [shapes[1]]

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        moves, begins, series = inputs
        path, last = np.empty(len(begins), dtype=np.int64), dict[int, int]()
        for t, code in enumerate(series.tolist()):
            path[t] = moves[t, last[code]] if code in last else begins[t]
            last[code] = path[t]
        outputs[0][0] = path


@numba_basic.register_funcify_and_cache_key(ChainPath)
def _numba_path(op: ChainPath, node: Apply, **_: Any) -> tuple[Any, str]:
    return numba_function("moves, begins, series", "chain_path")


def drawn_path(outputs: Any, series: Any, n_experts: int, is_stationary: bool) -> Any:
    """Symbolic draw (obs,) of the experts of rows.

    ``outputs`` (obs, from and to) are logits of the transitions into each row, and ``series``
    (obs,) its series.
    """
    import pymc as pm

    moves = pm.Categorical.dist(logit_p=outputs.reshape((-1, n_experts, n_experts)))
    # A row by itself is the first of a series: what is predicted of it are the first probabilities.
    alone = pt.cumsum(pt.ones_like(series)) - 1
    nothing = pt.zeros_like(outputs[:, :n_experts]).T
    first = chain_values(nothing, outputs.T, alone, is_stationary)[1].T
    return ChainPath()(moves, pm.Categorical.dist(logit_p=first), series)

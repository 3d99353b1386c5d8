"""States of recurrent cells as a PyTensor operation, with derivatives by backpropagation.

NumPy and numba call the compiled loops of :mod:`bayes_moe.kernels.recurrent`, which are found by
their path, as kernels are above predictors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_type, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import basic as numba_basic

from bayes_moe.core.registry import resolve_path

KERNELS = "bayes_moe.kernels.recurrent"
SECOND = "backpropagation through time has no second derivatives in a graph"


def kernel(name: str) -> Any:
    """Return a function of :mod:`bayes_moe.kernels.recurrent`."""
    return resolve_path(f"{KERNELS}:{name}")


def rows_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features (obs, term), and positions of the rows before, the last column."""
    return np.ascontiguousarray(features[:, :-1]), features[:, -1].astype(np.int64)


class States(Op):
    """States of a recurrent cell on the rows of a table.

    Inputs are features (obs, term and position of the row before), weights of the features (copy,
    gate, unit, term), weights of the state before (copy, gate, unit, unit), and of a GRU the
    constants (copy, unit). Outputs are states (copy, obs, unit), and what backpropagation reads.
    """

    __props__ = ("cell",)

    def __init__(self, cell: str) -> None:
        self.cell = cell

    def make_node(self, *values: Any) -> Apply:
        inputs = [pt.as_tensor(x, dtype="float64") for x in values]
        copies, *_, units, _ = inputs[1].type.shape
        states = pt.tensor(dtype="float64", shape=(copies, None, units))
        kept = pt.tensor(dtype="float64", shape=(copies, None, None))
        return Apply(self, inputs, [states, kept])

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        rows, (copies, gates, units, _) = shapes[0][0], shapes[1]
        number = units if self.cell == "rnn" else (gates + 1) * units
        return [(copies, rows, units), (copies, rows, number)]

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        found = kernel("states_of")(self.cell, *rows_of(inputs[0]), *inputs[1:])
        for storage, value in zip(outputs, found, strict=True):
            storage[0] = value

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        slope, of_kept = cotangents
        if isinstance(slope.type, DisconnectedType) or not isinstance(
            of_kept.type, DisconnectedType
        ):
            weights = [
                grad_not_implemented(self, j, x, SECOND) for j, x in enumerate(inputs[1:], start=1)
            ]
            return [disconnected_type(), *weights]
        node = Slopes(self.cell).make_node(inputs[0], inputs[2], *outputs, slope)
        return [disconnected_type(), *node.outputs]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[j > 0, j > 0] for j in range(len(node.inputs))]


class Slopes(Op):
    """Derivatives by the weights of a recurrent cell.

    Inputs are features, weights of the state before, the outputs of :class:`States`, and
    derivatives by the states; outputs are derivatives by each weight, as inputs of that.
    """

    __props__ = ("cell",)

    def __init__(self, cell: str) -> None:
        self.cell = cell

    def make_node(self, *values: Any) -> Apply:
        inputs = [pt.as_tensor(x, dtype="float64") for x in values]
        outputs = [pt.tensor4(dtype="float64"), pt.tensor4(dtype="float64")]
        outputs += [pt.matrix(dtype="float64")] if self.cell == "gru" else []
        return Apply(self, inputs, outputs)

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        features, recurrent, *_ = shapes
        copies, gates, units, _ = recurrent
        found: list[Any] = [(copies, gates, units, features[1] - 1), tuple(recurrent)]
        return [*found, (copies, units)] if self.cell == "gru" else found

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        features, *rest = inputs
        found = kernel("slopes_of")(self.cell, rows_of(features), *rest)
        for storage, value in zip(outputs, found, strict=True):
            storage[0] = value


@numba_basic.register_funcify_and_cache_key(States)
def _numba_states(op: States, node: Apply, **_: Any) -> tuple[Any, str]:
    """The compiled function of the states, and the key of its cache entry."""
    return _compiled("states_function", op.cell)


@numba_basic.register_funcify_and_cache_key(Slopes)
def _numba_slopes(op: Slopes, node: Apply, **_: Any) -> tuple[Any, str]:
    """The compiled function of the derivatives, and the key of its cache entry."""
    return _compiled("slopes_function", op.cell)


def _compiled(name: str, cell: str) -> tuple[Any, str]:
    """A function of the cell for numba, and its key."""
    function = resolve_path(f"{KERNELS}_numba:{name}")(cell)
    key = resolve_path(f"{KERNELS}_numba:KEY")
    return numba_basic.numba_njit(function, error_model="numpy"), f"{name} {cell} {key}"
